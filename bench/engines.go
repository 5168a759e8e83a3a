package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

// An engine is a daemon with its command line.
type engine struct {
	name    string
	program string
	// buildkit is the command line that builds by BuildKit's own protocol: the same
	// for both, as Docker's does that by a plugin.
	buildkit string
	host     string
	home     string
	pid      int
	// shims is how its processes beside containers are called.
	shims string
	// helpers are further processes that the engine needs, by their names.
	helpers []string
	stop    func()
}

// command returns a command line, not started.
func (e *engine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.program, args...)
	cmd.Env = []string{"DOCKER_HOST=" + e.host, "HOME=" + e.home, "PATH=" + os.Getenv("PATH"), "DOCKER_CLI_HINTS=false", "DOCKER_BUILDKIT=0"}
	return cmd
}

// cli runs a command line and returns its output.
func (e *engine) cli(ctx context.Context, args ...string) (string, error) {
	cmd := e.command(ctx, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// quiet runs a command line whose output goes nowhere.
func (e *engine) quiet(ctx context.Context, args ...string) error {
	cmd := e.command(ctx, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

func startPorthole(ctx context.Context, dir, images string) (*engine, error) {
	d, err := bed.Start(bed.Options{Dir: dir, Quiet: true})
	if err != nil {
		return nil, err
	}
	e := &engine{
		name: "porthole", program: d.Program("porthole"), buildkit: d.Program("porthole"), host: d.Host(), home: dir, pid: d.Pid(), shims: "porthole-shim",
		stop: func() {
			if err := d.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		},
	}
	return e, e.quiet(ctx, "load", "-q", "-i", filepath.Join(images, "busybox_latest.tar"))
}

// startDocker starts the dockerd on the path.
func startDocker(ctx context.Context, dir, images string) (*engine, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not the settings of the machine's own daemon.
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o644); err != nil {
		return nil, err
	}
	host := "unix://" + filepath.Join(dir, "docker.sock")
	cmd := exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", host, "--config-file", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &engine{
		name: "docker", program: "docker", host: host, home: dir, pid: cmd.Process.Pid,
		shims: "containerd-shim", helpers: []string{"containerd"},
		stop: func() {
			_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
			_ = cmd.Wait()
		},
	}
	if err := e.waitUntilUp(ctx); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	archive := filepath.Join(dir, "busybox.tar")
	convert := exec.CommandContext(ctx, "skopeo", "--insecure-policy", "copy", "-q",
		"oci-archive:"+filepath.Join(images, "busybox_latest.tar"), "docker-archive:"+archive+":busybox:latest")
	if out, err := convert.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("convert image for docker: %w\n%s", err, out)
	}
	return e, e.quiet(ctx, "load", "-q", "-i", archive)
}

func (e *engine) waitUntilUp(ctx context.Context) error {
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := e.cli(ctx, "version")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// processes returns the pids of processes called name, cut to 15 bytes as the
// kernel does.
func processes(name string) (pids []int, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", d.Name(), "comm"))
		if err == nil && strings.HasPrefix(strings.TrimSpace(string(comm)), name[:min(len(name), 15)]) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// memory returns, in MiB, a process's memory that is its alone, and its
// resident memory.
func memory(pid int) (private, rss float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Private_Clean:", "Private_Dirty:":
			private += kib / 1024
		case "Rss:":
			rss += kib / 1024
		}
	}
	if rss == 0 {
		err = errors.New("smaps_rollup tells nothing")
	}
	return private, rss, err
}
