package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

// A peer is a Docker Engine on this machine.
type peer struct {
	// bin is the directory with its programs; empty: those on the path.
	bin string
	dir string // for all its files
}

// path is where the engine's programs are looked for, its own first.
func (p *peer) path() string {
	if p.bin == "" {
		return os.Getenv("PATH")
	}
	return p.bin + string(os.PathListSeparator) + os.Getenv("PATH")
}

// program is the path of one of its programs.
func (p *peer) program(name string) (string, error) {
	if p.bin == "" {
		return exec.LookPath(name)
	}
	return exec.LookPath(filepath.Join(p.bin, name))
}

// versions are those of all its parts.
func (p *peer) versions(ctx context.Context) (string, error) {
	var all []string
	for _, name := range []string{"dockerd", "containerd", "runc", "docker"} {
		program, err := p.program(name)
		if err != nil {
			return "", err
		}
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return "", fmt.Errorf("%s --version: %w", program, err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		all = append(all, name+" "+version(line))
	}
	return strings.Join(all, ", "), nil
}

// version is the word of a program's own words that is its version: the first
// that begins with a digit, or with a v before it.
func version(line string) string {
	for word := range strings.FieldsSeq(line) {
		word = strings.TrimRight(strings.TrimPrefix(word, "v"), ",")
		if word != "" && word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return line
}

// startDocker starts a Docker Engine with its defaults, but that its containers
// outlive the daemon (live-restore), as ours do.
func startDocker(ctx context.Context, p *peer, images string) (*engine, error) {
	if err := os.MkdirAll(p.dir, 0o711); err != nil {
		return nil, err
	}
	// Not the settings of the machine's own daemon.
	config := filepath.Join(p.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{\"live-restore\": true}\n"), 0o644); err != nil {
		return nil, err
	}
	program, err := p.program("docker")
	if err != nil {
		return nil, err
	}
	e := &engine{
		name: "docker", program: program, host: "unix://" + filepath.Join(p.dir, "docker.sock"), home: p.dir, path: p.path(),
		shims: "containerd-shim", helpers: []string{"containerd"},
	}
	var daemon *exec.Cmd
	e.start = func() (int, error) {
		if daemon, err = p.start(e.host, config); err != nil {
			return 0, err
		}
		return daemon.Process.Pid, nil
	}
	e.end = func(sig unix.Signal) error {
		if err := daemon.Process.Signal(sig); err != nil {
			return err
		}
		var status *exec.ExitError
		if err := daemon.Wait(); err != nil && !errors.As(err, &status) {
			return err
		}
		return nil
	}
	// The world's end would end what it leaves running, but neither its cgroups nor its files go by that.
	e.stop = func() {
		if err := errors.Join(e.end(unix.SIGTERM), bed.Clear(p.group(), p.dir)); err != nil {
			fmt.Fprintln(os.Stderr, "bench: docker:", err)
		}
	}
	if e.pid, err = e.start(); err != nil {
		return nil, err
	}
	if err := e.waitUntilUp(ctx); err != nil {
		text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):]), e.end(unix.SIGKILL), bed.Clear(p.group(), p.dir))
	}
	if err := p.load(ctx, e, filepath.Join(images, "busybox_latest.tar")); err != nil {
		return nil, errors.Join(err, e.end(unix.SIGTERM), bed.Clear(p.group(), p.dir))
	}
	return e, nil
}

// group is the cgroup of all its containers. Its own word for it, /docker, may be that of the machine's own daemon.
func (p *peer) group() string { return "/" + filepath.Base(filepath.Dir(p.dir)) + "-docker" }

// start starts its daemon.
func (p *peer) start(host, config string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	program, err := p.program("dockerd")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "--data-root", filepath.Join(p.dir, "data"), "--exec-root", filepath.Join(p.dir, "exec"),
		"--pidfile", filepath.Join(p.dir, "pid"), "--host", host, "--config-file", config, "--cgroup-parent", p.group())
	cmd.Env = append(os.Environ(), "PATH="+p.path())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

// load loads an OCI archive, which older engines do not read, as busybox.
func (p *peer) load(ctx context.Context, e *engine, oci string) error {
	archive := filepath.Join(p.dir, "busybox.tar")
	convert := exec.CommandContext(ctx, "skopeo", "--insecure-policy", "copy", "-q", "oci-archive:"+oci, "docker-archive:"+archive+":busybox:latest")
	if out, err := convert.CombinedOutput(); err != nil {
		return fmt.Errorf("convert image for docker: %w\n%s", err, out)
	}
	return e.quiet(ctx, "load", "-q", "-i", archive)
}

func (e *engine) waitUntilUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := e.cli(ctx, "version")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// introduce says which parts it has, and how it was run, as it says itself.
func (p *peer) introduce(ctx context.Context, t *table, e *engine) error {
	versions, err := p.versions(ctx)
	if err != nil {
		return err
	}
	info, err := e.cli(ctx, "info", "--format", "storage {{.Driver}} {{.DriverStatus}}, cgroup v{{.CgroupVersion}} by {{.CgroupDriver}}, "+
		"{{.SecurityOptions}}, live-restore {{.LiveRestoreEnabled}}")
	if err != nil {
		return err
	}
	t.say("%s: %s", versions, strings.TrimSpace(info))
	return nil
}
