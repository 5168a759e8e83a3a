package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the daemon may take to start or to stop.
const patience = 30 * time.Second

// Options say how a daemon is started.
type Options struct {
	// Bin is the directory with the programs. Empty: PORTHOLE_TEST_BIN, or else
	// they are built.
	Bin string
	// Dir holds data root, exec root and log. It is made if needed.
	Dir string
	// Args are further arguments.
	Args []string
	// Quiet leaves debug mode off.
	Quiet bool
}

// A Daemon is a portholed that tests may kill and start again.
type Daemon struct {
	Bin          string
	Dir          string
	Socket       string // path of the API socket
	CgroupParent string
	Env          []string // further environment of the next that is started
	args         []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Start starts a daemon and waits until it answers.
func Start(o Options) (*Daemon, error) {
	bin := o.Bin
	if bin == "" {
		bin = os.Getenv("PORTHOLE_TEST_BIN")
	}
	if bin == "" {
		var err error
		if bin, err = build(o.Dir); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Dir, 0o711); err != nil {
		return nil, err
	}
	d := &Daemon{
		Bin: bin, Dir: o.Dir, Socket: filepath.Join(o.Dir, "porthole.sock"),
		// Other worlds share the cgroup tree, so the name has to be ours alone.
		CgroupParent: fmt.Sprintf("/porthole-test-%s", filepath.Base(o.Dir)),
		args:         o.Args,
	}
	if !o.Quiet {
		d.args = append([]string{"--debug"}, o.Args...)
	}
	return d, d.Start()
}

// build makes the programs of the source tree that the test is part of.
func build(dir string) (string, error) {
	bin := filepath.Join(dir, "bin")
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find source tree: %w", err)
	}
	cmd := exec.Command("make", "build")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(root)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	// A copy, so that the next make does not change what runs.
	return bin, os.CopyFS(bin, os.DirFS(filepath.Join(cmd.Dir, "bin")))
}

// DataRoot is the daemon's data root.
func (d *Daemon) DataRoot() string { return filepath.Join(d.Dir, "data") }

// ExecRoot is the daemon's exec root.
func (d *Daemon) ExecRoot() string { return filepath.Join(d.Dir, "exec") }

// Host is the value for DOCKER_HOST.
func (d *Daemon) Host() string { return "unix://" + d.Socket }

// LogPath is the file with what all daemons in Dir have said.
func (d *Daemon) LogPath() string { return filepath.Join(d.Dir, "portholed.log") }

// Program returns the path of one of the programs.
func (d *Daemon) Program(name string) string { return filepath.Join(d.Bin, name) }

// Command returns a command for the daemon's arguments, not started.
func (d *Daemon) Command(args ...string) *exec.Cmd {
	all := append([]string{
		"--data-root", d.DataRoot(), "--exec-root", d.ExecRoot(), "--pidfile", filepath.Join(d.Dir, "portholed.pid"),
		"--cgroup-parent", d.CgroupParent, "--host", d.Host(),
	}, d.args...)
	return exec.Command(d.Program("portholed"), append(all, args...)...)
}

// Start starts the daemon, which must not be running, and waits until it
// answers.
func (d *Daemon) Start() error {
	log, err := os.OpenFile(d.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.Command()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	d.mu.Lock()
	d.cmd, d.done = cmd, done
	d.mu.Unlock()
	return d.waitUntilUp(done)
}

func (d *Daemon) waitUntilUp(done <-chan struct{}) error {
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.Get("/_ping"); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("the daemon ended at its start:\n%s", d.LogTail(4096))
		case <-deadline:
			return fmt.Errorf("the daemon does not answer:\n%s", d.LogTail(4096))
		case <-tick.C:
		}
	}
}

// Pid is the daemon's process id, 0 when it is not running.
func (d *Daemon) Pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return 0
	}
	select {
	case <-d.done:
		return 0
	default:
		return d.cmd.Process.Pid
	}
}

// Ended waits until the daemon has ended by itself, but no longer than ctx.
func (d *Daemon) Ended(ctx context.Context) bool {
	d.mu.Lock()
	done := d.done
	d.mu.Unlock()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Signal sends the daemon a signal.
func (d *Daemon) Signal(sig unix.Signal) error {
	pid := d.Pid()
	if pid == 0 {
		return errors.New("the daemon is not running")
	}
	return unix.Kill(pid, sig)
}

// Kill kills the daemon with SIGKILL and waits for its end.
func (d *Daemon) Kill() error { return d.end(unix.SIGKILL) }

// Stop ends the daemon with SIGTERM and waits for its end.
func (d *Daemon) Stop() error { return d.end(unix.SIGTERM) }

func (d *Daemon) end(sig unix.Signal) error {
	if d.Pid() == 0 {
		return nil
	}
	if err := d.Signal(sig); err != nil {
		return err
	}
	d.mu.Lock()
	done := d.done
	d.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the daemon does not end on %v:\n%s", sig, d.LogTail(4096))
	}
}

// LogTail returns the last n bytes of the daemon's log.
func (d *Daemon) LogTail(n int) string {
	data, err := os.ReadFile(d.LogPath())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-n):])
}

// Get asks the daemon for a path of its API and returns the body. A status of
// 300 and above is an error.
func (d *Daemon) Get(path string) ([]byte, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
		},
	}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://porthole" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// Goroutines returns how many the daemon has.
func (d *Daemon) Goroutines() (int, error) {
	body, err := d.Get("/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	// The first line is "goroutine profile: total 12".
	line, _, _ := strings.Cut(string(body), "\n")
	return strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
}

// Close stops the daemon and removes Dir and its cgroups. What the tests left
// running is killed first.
func (d *Daemon) Close() error {
	err := d.Stop()
	for range 100 {
		if killAll(d.CgroupParent) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(err, unmountBelow(d.Dir), os.RemoveAll(d.Dir))
}

// Porthole runs the command line and returns what it printed.
func (d *Daemon) Porthole(ctx context.Context, args ...string) (string, error) {
	return d.Run(ctx, d.Program("porthole"), args...)
}

// Run runs a client with the daemon as its host and returns its standard output
// without the last newline. An error has the standard error's text.
func (d *Daemon) Run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), err
}
