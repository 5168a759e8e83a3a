package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the daemon may take to start or to stop.
var patience = Patience(30 * time.Second)

// Patience is a time to wait for what is to come, on this machine: one whose processor is emulated says by
// PORTHOLE_TEST_SLOW how many times longer it takes.
func Patience(d time.Duration) time.Duration {
	n, err := strconv.Atoi(os.Getenv("PORTHOLE_TEST_SLOW"))
	if err != nil || n < 1 {
		n = 1
	}
	return time.Duration(n) * d
}

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
	// Prepare, if it is set, is called with each daemon before it is started, and what it returns once it is.
	Prepare func(*exec.Cmd) (after func() error, err error)
	args    []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// started are those that were not closed yet.
var started struct {
	mu  sync.Mutex
	all map[*Daemon]bool
}

// closeAll closes all that were started.
func closeAll() {
	started.mu.Lock()
	all := slices.Collect(maps.Keys(started.all))
	started.mu.Unlock()
	for _, d := range all {
		if err := d.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "clean up:", err)
		}
	}
}

// Start starts a daemon and waits until it answers. If it does not, nothing is
// left of it, nor of Dir.
func Start(o Options) (*Daemon, error) {
	bin := o.Bin
	if bin == "" {
		var err error
		if bin, err = Programs(filepath.Join(o.Dir, "bin")); err != nil {
			return nil, errors.Join(err, os.RemoveAll(o.Dir))
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
	started.mu.Lock()
	if started.all == nil {
		started.all = make(map[*Daemon]bool)
	}
	started.all[d] = true
	started.mu.Unlock()
	if err := d.Start(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Programs is the directory with the programs: PORTHOLE_TEST_BIN, or else bin, into
// which those are built of the source tree that the test is part of.
func Programs(bin string) (string, error) {
	if dir := os.Getenv("PORTHOLE_TEST_BIN"); dir != "" {
		return dir, nil
	}
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
	after := func() error { return nil }
	if d.Prepare != nil {
		if after, err = d.Prepare(cmd); err != nil {
			return fmt.Errorf("prepare daemon: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	failed := after()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	d.mu.Lock()
	d.cmd, d.done = cmd, done
	d.mu.Unlock()
	if failed != nil {
		return errors.Join(failed, d.Kill())
	}
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

// LastPid is the process id of the daemon that was started last, whether it runs or not.
func (d *Daemon) LastPid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cmd.Process.Pid
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

// panicked is set when a daemon was closed whose log tells of a panic or a race.
var panicked atomic.Bool

// Close stops the daemon and removes Dir and its cgroups. What the tests left
// running is killed first. If its log tells of a panic or a race, [Main] fails.
func (d *Daemon) Close() error {
	err := d.Stop()
	if lines := d.Panics(0); len(lines) > 0 {
		panicked.Store(true)
		err = errors.Join(err, fmt.Errorf("the daemon has panicked, or a shim raced:\n%s", strings.Join(lines, "\n")))
	}
	started.mu.Lock()
	delete(started.all, d)
	started.mu.Unlock()
	return errors.Join(err, Clear(d.CgroupParent, d.Dir))
}

// Clear takes away what an engine that has ended has left: it kills all that is in the cgroup parent, of which it removes what
// can be, and removes dir with what is mounted in it.
func Clear(parent, dir string) error {
	for range 100 {
		if killAll(parent) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(unmountBelow(dir), os.RemoveAll(dir))
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
