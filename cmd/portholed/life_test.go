package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
)

// asDaemon makes the test binary run as portholed.
const asDaemon = "TEST_AS_PORTHOLED"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		if os.Getenv("LISTEN_FDS") != "" { // systemd would know the pid beforehand
			_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// life is a daemon process with its directories.
type life struct {
	t    *testing.T
	dir  string
	args []string
	env  []string
	fds  []*os.File

	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  bytes.Buffer
}

func (l *life) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (l *life) logged() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

func newLife(t *testing.T) *life {
	testenv.NeedsRoot(t)
	l := &life{t: t, dir: t.TempDir()}
	t.Cleanup(removeCgroups)
	l.settings(`{}`)
	l.args = []string{"--host", "unix://" + l.path("api.sock")}
	return l
}

// cgroupParent is where the daemons of these tests would have containers.
const cgroupParent = "/porthole-test-life"

// removeCgroups removes what the daemon has prepared for containers. It is for
// the next daemon otherwise, so a daemon leaves it.
func removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup" + cgroupParent, "/sys/fs/cgroup/*" + cgroupParent} {
		for _, below := range []string{"/*/*", "/*", ""} {
			found, _ := filepath.Glob(pattern + below)
			for _, dir := range found {
				_ = syscall.Rmdir(dir) // files and groups in use stay
			}
		}
	}
}

func (l *life) path(name string) string { return filepath.Join(l.dir, name) }

func (l *life) settings(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.path("daemon.json"), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// command returns the daemon's command, in a network namespace of its own.
func (l *life) command(args ...string) *exec.Cmd {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{
		"--config-file", l.path("daemon.json"), "--data-root", l.path("data"), "--exec-root", l.path("exec"),
		// No container is run here, so any program will do.
		"--shim", self, "--cgroup-parent", cgroupParent,
	}, args...)...)
	cmd.Env = append(os.Environ(), append(l.env, asDaemon+"=1")...)
	cmd.ExtraFiles = l.fds
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts the daemon and waits until it answers.
func (l *life) start() {
	l.t.Helper()
	cmd := l.command(l.args...)
	cmd.Stderr = l
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	l.cmd, l.done = cmd, done
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	l.until("the daemon answers", func() bool {
		resp, err := l.client().Get("http://d/_ping")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (l *life) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", l.path("api.sock")) },
		DisableKeepAlives: true,
	}}
}

// until waits for something that the daemon does by itself.
func (l *life) until(what string, ok func() bool) {
	l.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain until %s; log:\n%s", what, l.logged())
		}
	}
}

func (l *life) signal(sig syscall.Signal) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(sig); err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func TestLife(t *testing.T) {
	l := newLife(t)
	l.start()

	// Another daemon has no place here.
	out, err := l.command("--host", "unix://"+l.path("other.sock")).CombinedOutput()
	want := fmt.Sprintf("portholed: data root %q is in use by another daemon, pid %d\n", l.path("data"), l.cmd.Process.Pid)
	if err == nil || string(out) != want {
		t.Errorf("a second daemon: %v, %q, want %q", err, out, want)
	}

	l.settings(`{"debug":true,"mtu":1400}`)
	l.signal(syscall.SIGHUP)
	l.until("settings are reloaded", func() bool { return strings.Contains(l.logged(), "settings reloaded") })
	if log := l.logged(); !strings.Contains(log, "settings=[mtu]") {
		t.Errorf("no warning of a setting that needs a restart: %s", log)
	}
	resp, err := l.client().Get("http://d/v1.51/containers/json")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if !strings.Contains(l.logged(), "handling request") {
		t.Error("debug mode is not on")
	}

	l.settings(`{"debug":`)
	l.signal(syscall.SIGHUP)
	l.until("the wrong file is refused", func() bool { return strings.Contains(l.logged(), "settings were not reloaded") })

	l.signal(syscall.SIGUSR1)
	l.until("the stacks are dumped", func() bool {
		found, _ := filepath.Glob(l.path("exec/goroutine-stacks-*.log"))
		return len(found) == 1
	})

	l.signal(syscall.SIGTERM)
	l.until("the daemon has ended", l.ended)
	if code := l.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d; log:\n%s", code, l.logged())
	}
	for _, left := range []string{"api.sock", "exec/portholed.pid"} {
		if _, err := os.Lstat(l.path(left)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
}

func TestLifeAfterKill(t *testing.T) {
	l := newLife(t)
	l.start()
	l.signal(syscall.SIGKILL)
	l.until("the daemon is dead", l.ended)
	l.start() // over the dead one's socket, pid file and lock
	if text, err := os.ReadFile(l.path("exec/portholed.pid")); err != nil || string(text) != strconv.Itoa(l.cmd.Process.Pid) {
		t.Errorf("pid file %q, %v", text, err)
	}
}

func TestLifeForcedEnd(t *testing.T) {
	l := newLife(t)
	l.start()
	// A request that takes its time.
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		if resp, err := l.client().Get("http://d/debug/pprof/trace?seconds=60"); err == nil {
			_ = resp.Body.Close()
		}
	}()
	l.until("the request is under way", func() bool {
		resp, err := l.client().Get("http://d/porthole/daemon")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return bytes.Contains(text, []byte("/debug/pprof/trace"))
	})
	l.signal(syscall.SIGTERM)
	l.until("the daemon stops", func() bool { return strings.Contains(l.logged(), "daemon stops") })
	l.signal(syscall.SIGTERM)
	l.until("the second signal is seen", func() bool { return strings.Contains(l.logged(), "already stopping") })
	l.signal(syscall.SIGTERM)
	l.until("the daemon has ended", l.ended)
	if code := l.cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", code)
	}
	<-slow
}

func TestLifeUnderSystemd(t *testing.T) {
	l := newLife(t)
	api, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.path("api.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	file, err := api.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	notes, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	next := func() string {
		buf := make([]byte, 512)
		_ = notes.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := notes.Read(buf)
		if err != nil {
			t.Fatalf("no word to systemd: %v; log:\n%s", err, l.logged())
		}
		return string(buf[:n])
	}
	l.args = []string{"--host", "fd://"}
	l.env = []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=porthole.socket", "NOTIFY_SOCKET=" + l.path("notify")}
	l.fds = []*os.File{file}
	l.start()
	if got := next(); got != "READY=1" {
		t.Errorf("first word %q", got)
	}
	l.signal(syscall.SIGHUP)
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("at reload %q", got)
	}
	if got := next(); got != "READY=1" {
		t.Errorf("after reload %q", got)
	}
	l.signal(syscall.SIGTERM)
	if got := next(); got != "STOPPING=1" {
		t.Errorf("at the end %q", got)
	}
	l.until("the daemon has ended", l.ended)
	// The socket is systemd's, who goes on listening.
	if _, err := os.Stat(l.path("api.sock")); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	l := newLife(t)
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"version", []string{"--version"}, 0, "Porthole version 0.0.0-dev, build unknown\n"},
		{"validate", []string{"--validate"}, 0, "configuration OK\n"},
		{"validate what is wrong", []string{"--validate", "--mtu", "-1"}, 1, "portholed: invalid default MTU: -1\n"},
		{"log option", []string{"--validate", "--log-driver", "local", "--log-opt", "tag=x"}, 1, "portholed: failed to set log opts: unknown log opt 'tag' for log driver local\n"},
		{"log driver", []string{"--validate", "--log-driver", "gelf"}, 1, "portholed: failed to set log opts: logger: no log driver named 'gelf' is registered\n"},
		{"unknown flag", []string{"--zebra"}, 1, "portholed: unknown flag: --zebra\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := l.command(tt.args...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tt.code || string(out) != tt.want {
				t.Errorf("%d %q, want %d %q", code, out, tt.code, tt.want)
			}
		})
	}
	if out, err := l.command("--help").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "Usage:  portholed [OPTIONS]") {
		t.Errorf("help: %v %q", err, out)
	}
}
