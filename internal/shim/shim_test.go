package shim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// rig is a shim in this process, with a daemon connected.
type rig struct {
	t        testing.TB
	dir      string
	client   *wire.Client
	served   chan error
	stateDir string
	logDir   string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigWith(t, nil)
}

// newRigWith is newRig with an early stage.
func newRigWith(t testing.TB, early *Early) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, stateDir: filepath.Join(dir, "shim"), logDir: filepath.Join(dir, "logs"), served: make(chan error, 1)}
	for _, d := range []string{r.stateDir, r.logDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	state, logs := openDir(t, r.stateDir), openDir(t, r.logDir)
	l, err := wire.Listen(filepath.Join(dir, "shim.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Listener: l, StateDir: state, LogDir: logs, Executable: "/proc/self/exe",
		StageArgs: []string{fakeStageName}, ServeArgs: []string{"none"},
		Early: early,
	})
	go func() { r.served <- s.Serve() }()
	r.client = r.dial()
	t.Cleanup(r.stop)
	return r
}

func openDir(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (r *rig) dial() *wire.Client {
	r.t.Helper()
	c, err := wire.Dial(filepath.Join(r.dir, "shim.sock"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// stop ends what a failed test left and waits for the shim.
func (r *rig) stop() {
	if c, err := wire.Dial(filepath.Join(r.dir, "shim.sock")); err == nil {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var st wire.State
		if _, err := c.Call(ctx, wire.MethodState, nil, &st); err == nil {
			for _, p := range st.Processes {
				syscall.Kill(p.PID, syscall.SIGKILL)
			}
			for {
				_, err := c.Call(ctx, wire.MethodShutdown, nil, nil)
				if e := (*wire.Error)(nil); !errors.As(err, &e) {
					break
				}
				<-time.After(time.Millisecond)
			}
		}
	}
	r.client.Close()
	select {
	case err := <-r.served:
		if err != nil {
			r.t.Errorf("serve: %v", err)
		}
	case <-time.After(10 * time.Second):
		r.t.Error("the shim does not end")
	}
}

func (r *rig) call(method string, in, out any, files ...*os.File) []*os.File {
	r.t.Helper()
	got, err := r.try(method, in, out, files...)
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	return got
}

func (r *rig) try(method string, in, out any, files ...*os.File) ([]*os.File, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	return r.client.Call(ctx, method, in, out, files...)
}

// start runs a program as the container's first process.
func (r *rig) start(spec wire.StartSpec, args ...string) int {
	r.t.Helper()
	pid := r.create(spec, args...)
	r.call(wire.MethodGo, wire.ProcessRef{Process: wire.Init}, nil)
	return pid
}

func (r *rig) create(spec wire.StartSpec, args ...string) int {
	r.t.Helper()
	spec.Args = args
	spec.Plan = fakePlan{Args: args, Terminal: spec.Terminal}.raw(r.t)
	var c wire.Created
	r.call(wire.MethodCreate, spec, &c)
	return c.PID
}

// exited waits for the end of a process.
func (r *rig) exited(process string) wire.Exit {
	r.t.Helper()
	for {
		select {
		case ev, ok := <-r.client.Events():
			if !ok {
				r.t.Fatalf("%s: the shim went without telling the exit", process)
			}
			var e wire.Exited
			if err := json.Unmarshal(ev.Body, &e); err != nil {
				r.t.Fatal(err)
			}
			if e.Process == process {
				return e.Exit
			}
		case <-time.After(20 * time.Second):
			r.t.Fatalf("%s: no exit event", process)
		}
	}
}

// attach connects a client and returns its end.
func (r *rig) attach(spec wire.AttachSpec) *os.File {
	r.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		r.t.Fatal(err)
	}
	ours := os.NewFile(uintptr(pair[0]), "ours")
	r.t.Cleanup(func() { ours.Close() })
	r.call(wire.MethodAttach, spec, nil, theirs)
	return ours
}

// logLines gives what the log has, as the segments' text.
func (r *rig) log() string {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.logDir, "*.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	var out strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			_, rest, _ := strings.Cut(line, " ")
			out.WriteString(rest)
		}
	}
	return out.String()
}

// demux undoes Docker's framing.
func demux(t testing.TB, b []byte) (stdout, stderr string) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 8 {
			t.Fatalf("torn frame header %q", b)
		}
		n := binary.BigEndian.Uint32(b[4:])
		if uint32(len(b)-8) < n {
			t.Fatalf("torn frame of %d bytes", n)
		}
		text := string(b[8 : 8+n])
		switch b[0] {
		case 1:
			stdout += text
		case 2:
			stderr += text
		default:
			t.Fatalf("frame of stream %d", b[0])
		}
		b = b[8+n:]
	}
	return stdout, stderr
}

func TestRunLogsAndReportsExit(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   wire.Exit
		log    string
	}{
		{"success", "echo hello", wire.Exit{Code: 0}, "stdout F hello\n"},
		{"status", "echo oops >&2; exit 7", wire.Exit{Code: 7, Status: 7 << 8}, "stderr F oops\n"},
		{"signal", "kill -TERM $$", wire.Exit{Code: 143, Status: 15, Signal: 15}, ""},
		{"no newline at end", "printf 'a\\nb'", wire.Exit{}, "stdout F a\nstdout F:n b\n"},
		{"nothing to read on stdin", "cat; echo end", wire.Exit{}, "stdout F end\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			before := time.Now()
			r.start(wire.StartSpec{}, "sh", "-c", tt.script)
			got := r.exited(wire.Init)
			if got.At.Before(before) || got.At.After(time.Now()) {
				t.Errorf("exit at %v", got.At)
			}
			if got.MaxRSSBytes == 0 || got.OOMScoreAdj == nil {
				t.Errorf("exit lacks resource figures: %+v", got)
			}
			recorded, err := ReadExit(r.stateDir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, recorded); diff != "" {
				t.Errorf("exit.json differs from event: %s", diff)
			}
			got = wire.Exit{Code: got.Code, Status: got.Status, Signal: got.Signal}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("exit: %s", diff)
			}
			if diff := cmp.Diff(tt.log, r.log()); diff != "" {
				t.Errorf("log: %s", diff)
			}
			select {
			case err := <-r.served:
				r.served <- err
			case <-time.After(5 * time.Second):
				t.Error("the shim does not end by itself")
			}
		})
	}
}

func TestAttach(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{OpenStdin: true}, "sh", "-c", "cat; echo done >&2")
	both := r.attach(wire.AttachSpec{Stdin: true, Stdout: true, Stderr: true, CloseStdin: true})
	only := r.attach(wire.AttachSpec{Stderr: true})
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	if _, err := both.Write([]byte("one\ntwo")); err != nil {
		t.Fatal(err)
	}
	shutdownWrite(t, both)
	b, err := io.ReadAll(both)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := demux(t, b)
	if stdout != "one\ntwo" || stderr != "done\n" {
		t.Errorf("got stdout %q, stderr %q", stdout, stderr)
	}
	b, err = io.ReadAll(only)
	if err != nil {
		t.Fatal(err)
	}
	if stdout, stderr := demux(t, b); stdout != "" || stderr != "done\n" {
		t.Errorf("stderr client got stdout %q, stderr %q", stdout, stderr)
	}
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

// Who attaches finds in the log what was written before, also of a line that has no end yet.
func TestAttachAmidLine(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{OpenStdin: true}, "cat")
	first := r.attach(wire.AttachSpec{Stdin: true, Stdout: true, CloseStdin: true})
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	for i := range 5 { // the shim writes what has no end after a while, too
		prompt := fmt.Sprintf("%d. Password: ", i)
		if _, err := first.Write([]byte(prompt)); err != nil {
			t.Fatal(err)
		}
		expect(t, first, prompt)
		r.attach(wire.AttachSpec{Stdout: true})
		if got := r.log(); !strings.Contains(got, prompt) {
			t.Errorf("the log is %q, without %q", got, prompt)
		}
	}
	shutdownWrite(t, first)
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

func shutdownWrite(t testing.TB, f *os.File) {
	t.Helper()
	rc, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{Terminal: true, OpenStdin: true, Size: wire.Size{Height: 33, Width: 77}},
		"sh", "-c", "stty size; read x; stty size; echo got $x")
	c := r.attach(wire.AttachSpec{Stdin: true, Stdout: true, Stderr: true})
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	expect(t, c, "33 77\r\n")
	r.call(wire.MethodResize, wire.ResizeSpec{Width: 100, Height: 40}, nil)
	if _, err := c.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "40 100\r\ngot word\r\n")
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("after the end: %q, %v", got, err)
	}
}

// expect reads until the output ends with want.
func expect(t testing.TB, f *os.File, want string) {
	t.Helper()
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer f.SetReadDeadline(time.Time{})
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(got.Bytes(), []byte(want)) {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q, got %q: %v", want, got.String(), err)
		}
		got.Write(buf[:n])
	}
}

func TestStartFailures(t *testing.T) {
	tests := []struct {
		name   string
		plan   fakePlan
		method string
		want   string
		errno  syscall.Errno
	}{
		{"step fails", fakePlan{FailAt: "prepare"}, wire.MethodCreate, "prepare: permission denied", unix.EACCES},
		{"stage dies", fakePlan{DieAt: "prepare"}, wire.MethodCreate, "prepare: the stage ended early: signal 9 (killed)", 0},
		{"no terminal", fakePlan{}, wire.MethodCreate, "pty: the stage opened no terminal", 0},
		{"last step fails", fakePlan{Terminal: true, FailAt: "go"}, wire.MethodGo, "go: permission denied", unix.EACCES},
		{"stage dies late", fakePlan{Terminal: true, DieAt: "go"}, wire.MethodGo, "go: the stage ended early: signal 9 (killed)", 0},
		{"no such program", fakePlan{Terminal: true, Args: []string{"/no/such"}}, wire.MethodGo, "exec: ", unix.ENOENT},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			_, err := r.try(wire.MethodCreate, wire.StartSpec{Terminal: true, Plan: tt.plan.raw(t)}, nil)
			if tt.method == wire.MethodGo {
				if err != nil {
					t.Fatal(err)
				}
				_, err = r.try(wire.MethodGo, wire.ProcessRef{}, nil)
			}
			var e *wire.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an answered error", err)
			}
			if !strings.HasPrefix(e.Message, tt.want) || e.Errno != tt.errno {
				t.Errorf("got %q errno %d, want %q errno %d", e.Message, e.Errno, tt.want, tt.errno)
			}
			var st wire.State
			r.call(wire.MethodState, nil, &st)
			if st.Status != wire.StatusNone || len(st.Processes) != 0 {
				t.Errorf("left behind: %+v", st)
			}
			if _, err := os.Stat(filepath.Join(r.stateDir, ExitFile)); err == nil {
				t.Error("an exit was recorded for a process that never ran")
			}
			r.call(wire.MethodShutdown, nil, nil)
		})
	}
}

func TestExec(t *testing.T) {
	r := newRig(t)
	pid := r.start(wire.StartSpec{CloneFlags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET}, "sleep", "1000")
	in, inW := mustPipe(t)
	outR, out := mustPipe(t)
	spec := wire.ExecSpec{ID: "e1", Args: []string{"sh"}, Plan: fakePlan{
		EnterMnt: true, Files: 1,
		Args: []string{"sh", "-c", "for n in pid mnt uts ipc net; do readlink /proc/$PPID/ns/$n /proc/self/ns/$n; done >/dev/null; echo $$; cat; exit 3"},
	}.raw(t)}
	var c wire.Created
	r.call(wire.MethodExec, spec, &c, in, out, out)
	in.Close()
	out.Close()
	for _, ns := range []string{"pid", "mnt", "uts", "ipc", "net"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", c.PID, ns))
		if err != nil {
			t.Fatal(err)
		}
		if ns != "mnt" && got != want {
			t.Errorf("namespace %s of exec is %s, container's is %s", ns, got, want)
		}
	}
	r.call(wire.MethodGo, wire.ProcessRef{Process: "e1"}, nil)
	if _, err := inW.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	inW.Close()
	got, err := io.ReadAll(outR)
	if err != nil {
		t.Fatal(err)
	}
	if first, rest, _ := strings.Cut(string(got), "\n"); first == "" || rest != "through" {
		t.Errorf("output %q", got)
	}
	if e := r.exited("e1"); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	var st wire.State
	r.call(wire.MethodState, nil, &st)
	if len(st.Ended) != 1 || st.Ended[0].Exit.Code != 3 || len(st.Processes) != 1 {
		t.Errorf("state %+v", st)
	}
	r.call(wire.MethodSignal, wire.SignalSpec{Signal: syscall.SIGKILL}, nil)
	if e := r.exited(wire.Init); e.Code != 137 || e.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", e)
	}
}

func mustPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
