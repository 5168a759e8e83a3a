package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/shim/wire"
)

func (r *rig) state() wire.State {
	r.t.Helper()
	var st wire.State
	r.call(wire.MethodState, nil, &st)
	return st
}

// eventually waits until ok holds.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// exec runs a program in the container and returns its output and exit.
func (r *rig) exec(id string, args ...string) (string, wire.Exit) {
	r.t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		r.t.Fatal(err)
	}
	defer null.Close()
	rd, wr := mustPipe(r.t)
	defer rd.Close()
	r.call(wire.MethodExec, wire.ExecSpec{ID: id, Plan: fakePlan{Args: args, Files: 1}.raw(r.t)}, nil, null, wr, wr)
	wr.Close()
	r.call(wire.MethodGo, wire.ProcessRef{Process: id}, nil)
	out, err := io.ReadAll(rd)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(out), r.exited(id)
}

func TestNothingLeaks(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{OpenStdin: true, CloneFlags: unix.CLONE_NEWPID}, "sleep", "1000")
	r.exec("warm", "true")
	before := r.state().Self
	for i := range 40 {
		if out, e := r.exec(fmt.Sprint("e", i), "echo", "hi"); out != "hi\n" || e.Code != 0 {
			t.Fatalf("exec %d: %q, %+v", i, out, e)
		}
		c := r.attach(wire.AttachSpec{Stdin: true, Stdout: true, Stderr: true})
		if i%2 == 0 {
			shutdownWrite(t, c)
		}
		c.Close()
		d := r.dial()
		d.Close()
	}
	r.eventually("clients go", func() bool { return r.state().Clients == 0 })
	var now wire.Diagnostics
	defer func() {
		if t.Failed() {
			t.Logf("before %+v, now %+v", before, now)
		}
	}()
	r.eventually("back at the baseline", func() bool {
		now = r.state().Self
		return now.Goroutines <= before.Goroutines && now.Files <= before.Files && now.Threads <= before.Threads+10 && now.Connections == 1
	})
}

func TestNothingOfTheOutputIsLost(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(fmt.Sprintf("terminal=%v", terminal), func(t *testing.T) {
			r := newRig(t)
			const lines = 100000
			r.create(wire.StartSpec{Terminal: terminal}, "seq", fmt.Sprint(lines))
			var got [3][]byte
			var readers sync.WaitGroup
			for i := range got {
				c := r.attach(wire.AttachSpec{Stdout: true, Stderr: true})
				readers.Go(func() { got[i], _ = io.ReadAll(c) })
			}
			r.call(wire.MethodGo, wire.ProcessRef{}, nil)
			if e := r.exited(wire.Init); e.Code != 0 {
				t.Errorf("exit %+v", e)
			}
			readers.Wait()
			var want strings.Builder
			for i := 1; i <= lines; i++ {
				fmt.Fprintf(&want, "%d\n", i)
			}
			for i, b := range got {
				text := strings.ReplaceAll(string(b), "\r\n", "\n")
				if !terminal {
					text, _ = demux(t, b)
				}
				if text != want.String() {
					t.Errorf("client %d got %d bytes, want %d", i, len(text), want.Len())
				}
			}
			var log strings.Builder
			o := crilog.ReadOptions{Stdout: true, Tail: -1}
			err := crilog.Read(t.Context(), r.logDir, o, nil, func(e crilog.Entry) error {
				log.Write(bytes.ReplaceAll(e.Line, []byte("\r"), nil))
				return nil
			})
			if err != nil || log.String() != want.String() {
				t.Errorf("log has %d bytes, want %d; %v", log.Len(), want.Len(), err)
			}
		})
	}
}

func TestSlowClientDoesNotDelayTheExit(t *testing.T) {
	r := newRig(t)
	// More than a socket takes, less than pipe and socket together.
	const size = 400000
	r.create(wire.StartSpec{}, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero", size))
	slow := r.attach(wire.AttachSpec{Stdout: true})
	fast := r.attach(wire.AttachSpec{Stdout: true})
	var fastGot []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		fastGot, _ = io.ReadAll(fast)
	}()
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	<-done
	slowGot, err := io.ReadAll(slow)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"slow": slowGot, "fast": fastGot} {
		if out, _ := demux(t, b); len(out) != size {
			t.Errorf("%s client got %d bytes", name, len(out))
		}
	}
}

func TestClientThatWentBlocksNothing(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{}, "sh", "-c", "head -c 3000000 /dev/zero; echo end")
	gone := r.attach(wire.AttachSpec{Stdin: true, Stdout: true, Stderr: true})
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	buf := make([]byte, 1000)
	if _, err := gone.Read(buf); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestGrandchildThatHoldsTheOutput(t *testing.T) {
	r := newRig(t)
	c := func() *os.File {
		// No pid namespace: the sleep survives its parent and holds the pipes.
		r.create(wire.StartSpec{}, "sh", "-c", "sleep 30 & echo $!; echo bye")
		return r.attach(wire.AttachSpec{Stdout: true})
	}()
	begin := time.Now()
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	r.exited(wire.Init)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the exit was told after %v", took)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := demux(t, b)
	var pid int
	if _, err := fmt.Sscanf(out, "%d\nbye\n", &pid); err != nil {
		t.Fatalf("output %q: %v", out, err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestDaemonComesBack(t *testing.T) {
	r := newRig(t)
	pid := r.start(wire.StartSpec{OpenStdin: true}, "sh", "-c", "read x; exit 9")
	r.client.Close()
	r.client = r.dial()
	st := r.state()
	if st.Status != wire.StatusRunning || st.PID != pid || st.StartedAt.IsZero() || len(st.Processes) != 1 || len(st.Steps) == 0 {
		t.Errorf("state %+v", st)
	}
	r.call(wire.MethodCloseStdin, nil, nil)
	if e := r.exited(wire.Init); e.Code != 9 {
		t.Errorf("exit %+v", e)
	}
}

func TestExitIsRecordedWithoutADaemon(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{}, "sh", "-c", "sleep 0.05; exit 4")
	r.client.Close()
	if err := <-r.served; err != nil {
		t.Error(err)
	}
	r.served <- nil
	e, err := ReadExit(r.stateDir)
	if err != nil || e.Code != 4 {
		t.Errorf("recorded %+v, %v", e, err)
	}
	if run, _, err := ReadBegun(r.stateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("run %d has begun and not ended, %v", run, err)
	}
}

// TestBegunIsRecorded: should this shim be killed, there is who has begun.
func TestBegunIsRecorded(t *testing.T) {
	r := newRig(t)
	before := time.Now().Add(-time.Second)
	r.start(wire.StartSpec{Log: crilog.Options{Run: 3}}, "sleep", "100")
	r.eventually("it is recorded", func() bool {
		run, at, err := ReadBegun(r.stateDir)
		return err == nil && run == 3 && at.After(before)
	})
}

func TestDeafDaemonDelaysNobody(t *testing.T) {
	r := newRig(t)
	deaf, err := net.Dial("unix", filepath.Join(r.dir, "shim.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	r.start(wire.StartSpec{}, "true")
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestStdin(t *testing.T) {
	tests := []struct {
		name   string
		spec   wire.StartSpec
		script string
		client wire.AttachSpec
		input  string
		want   string
	}{
		{"much input", wire.StartSpec{OpenStdin: true}, "wc -c", wire.AttachSpec{Stdin: true, CloseStdin: true}, strings.Repeat("x", 2_000_000), "2000000\n"},
		{"process that does not read", wire.StartSpec{OpenStdin: true}, "exec <&-; echo ok", wire.AttachSpec{Stdin: true, CloseStdin: true}, strings.Repeat("x", 2_000_000), "ok\n"},
		{"once", wire.StartSpec{OpenStdin: true, StdinOnce: true}, "cat", wire.AttachSpec{Stdin: true}, "hi\n", "hi\n"},
		{"not open", wire.StartSpec{}, "cat; echo end", wire.AttachSpec{Stdin: true}, "ignored", "end\n"},
		{"not asked for", wire.StartSpec{OpenStdin: true}, "timeout 0.2 cat; echo end", wire.AttachSpec{}, "ignored", "end\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.create(tt.spec, "sh", "-c", tt.script)
			tt.client.Stdout = true
			c := r.attach(tt.client)
			r.call(wire.MethodGo, wire.ProcessRef{}, nil)
			go func() {
				io.WriteString(c, tt.input)
				rc, err := c.SyscallConn()
				if err == nil {
					rc.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
				}
			}()
			b, err := io.ReadAll(c)
			if err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
			if out, _ := demux(t, b); out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
			r.exited(wire.Init)
		})
	}
}

func TestSecondClientKeepsStdinOpen(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{OpenStdin: true}, "sh", "-c", "read a; read b; echo $a $b")
	one := r.attach(wire.AttachSpec{Stdin: true, Stdout: true})
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	io.WriteString(one, "one\n")
	one.Close()
	r.eventually("client goes", func() bool { return r.state().Clients == 0 })
	two := r.attach(wire.AttachSpec{Stdin: true, Stdout: true})
	io.WriteString(two, "two\n")
	b, err := io.ReadAll(two)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := demux(t, b); out != "one two\n" {
		t.Errorf("got %q", out)
	}
	r.exited(wire.Init)
}

func TestPromptReachesTheLog(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{OpenStdin: true}, "sh", "-c", "printf 'name? '; read x; echo")
	r.eventually("prompt in log", func() bool { return r.log() == "stdout P name? \n" })
	r.call(wire.MethodCloseStdin, nil, nil)
	r.exited(wire.Init)
	if got := r.log(); got != "stdout P name? \nstdout F \n" {
		t.Errorf("log %q", got)
	}
}

func TestTerminalExec(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{}, "sleep", "1000")
	files := r.call(wire.MethodExec, wire.ExecSpec{
		ID: "tty", Terminal: true, Size: wire.Size{Height: 10, Width: 20},
		Plan: fakePlan{Files: 1, Terminal: true, Args: []string{"sh", "-c", "stty size; exit 2"}}.raw(t),
	}, nil)
	if len(files) != 1 {
		t.Fatalf("%d files came", len(files))
	}
	pty := files[0]
	defer pty.Close()
	r.call(wire.MethodGo, wire.ProcessRef{Process: "tty"}, nil)
	out, err := io.ReadAll(pty)
	if string(out) != "10 20\r\n" || err != nil && !errors.Is(err, unix.EIO) {
		t.Errorf("output %q, %v", out, err)
	}
	if e := r.exited("tty"); e.Code != 2 {
		t.Errorf("exit %+v", e)
	}
	_, err = r.try(wire.MethodResize, wire.ResizeSpec{Process: "tty"}, nil)
	wantError(t, err, "the terminal of an exec is held by whoever started it")
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %q", err, want)
	}
}

func TestConcurrentExecs(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{CloneFlags: unix.CLONE_NEWPID}, "sleep", "1000")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var all sync.WaitGroup
	const n = 20
	for i := range n {
		all.Go(func() {
			id := fmt.Sprint("c", i)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			spec := wire.ExecSpec{ID: id, Plan: fakePlan{Files: 1, Args: []string{"sh", "-c", fmt.Sprint("exit ", i)}}.raw(t)}
			if _, err := r.client.Call(ctx, wire.MethodExec, spec, nil, null, null, null); err != nil {
				t.Error(err)
				return
			}
			if _, err := r.client.Call(ctx, wire.MethodGo, wire.ProcessRef{Process: id}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r.eventually("all end", func() bool { return len(r.state().Ended) == n })
	for _, e := range r.state().Ended {
		var want int
		if _, err := fmt.Sscanf(e.Process, "c%d", &want); err != nil || e.Exit.Code != want {
			t.Errorf("exec %s ended with %d", e.Process, e.Exit.Code)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	try := func(method string, in any, want string, files ...*os.File) {
		t.Helper()
		_, err := r.try(method, in, nil, files...)
		wantError(t, err, want)
	}
	try("dance", nil, `unknown method "dance"`)
	try(wire.MethodGo, nil, `process "init": no such process`)
	try(wire.MethodAttach, nil, `process "init": no such process`)
	try(wire.MethodExec, wire.ExecSpec{ID: "x"}, `process "init": no such process`)
	try(wire.MethodCreate, "text", "decode request")
	r.create(wire.StartSpec{}, "sleep", "1000")
	try(wire.MethodExec, wire.ExecSpec{ID: "x"}, "the container is not running")
	try(wire.MethodCreate, wire.StartSpec{}, "the container was created already")
	try(wire.MethodShutdown, nil, "1 processes are left")
	r.call(wire.MethodGo, nil, nil)
	try(wire.MethodGo, nil, "is not waiting to be started")
	try(wire.MethodExec, wire.ExecSpec{ID: wire.Init}, "is no id for a process")
	try(wire.MethodExec, wire.ExecSpec{ID: "x"}, "0 files where 3 are due")
	try(wire.MethodAttach, wire.AttachSpec{}, "0 files where 1 are due")
	try(wire.MethodResize, wire.ResizeSpec{}, "there is no terminal")
	try(wire.MethodSignal, wire.SignalSpec{Signal: 99}, "send signal 99")
	try(wire.MethodSignal, wire.SignalSpec{Process: "x", Signal: 9}, `process "x": no such process`)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	try(wire.MethodAttach, wire.AttachSpec{}, "not a stream socket", null)
}

func TestProcessThatDiesBeforeGo(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{}, "true")
	r.call(wire.MethodSignal, wire.SignalSpec{Signal: syscall.SIGKILL}, nil)
	if e := r.exited(wire.Init); e.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", e)
	}
	r.eventually("forgotten", func() bool { return r.state().Status == wire.StatusNone })
	_, err := r.try(wire.MethodGo, nil, nil)
	wantError(t, err, "no such process")
	if _, err := os.Stat(filepath.Join(r.stateDir, ExitFile)); err == nil {
		t.Error("an exit was recorded for a process that never ran")
	}
	r.start(wire.StartSpec{}, "true") // and may be created again
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestGarbageEndsTheConnectionOnly(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{}, "sleep", "1000")
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x01\x00\x00\x00", "\x02\x00\x00\x00\x01\x00\x00\x00{]", "\x01"} {
		c, err := net.Dial("unix", filepath.Join(r.dir, "shim.sock"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, garbage)
		c.(*net.UnixConn).CloseWrite()
		if b, err := io.ReadAll(c); len(b) != 0 {
			t.Errorf("%q was answered with %q, %v", garbage, b, err)
		}
		c.Close()
	}
	if st := r.state(); st.Status != wire.StatusRunning {
		t.Errorf("state %+v", st)
	}
}

func TestTerminalIsOpenedAgain(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{Terminal: true}, "sh", "-c",
		"t=$(tty </dev/tty); echo first; exec <&- >&- 2>&-; sleep 0.2; echo again >$t; exit 3")
	c := r.attach(wire.AttachSpec{Stdout: true})
	r.call(wire.MethodGo, nil, nil)
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "first\r\nagain\r\n" {
		t.Errorf("got %q, %v", b, err)
	}
	if e := r.exited(wire.Init); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
}

func TestNothingWaitsForAClientThatDoesNotRead(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{Terminal: true, OpenStdin: true}, "yes")
	stuck := r.attach(wire.AttachSpec{Stdout: true})
	r.call(wire.MethodGo, nil, nil)
	// Stuck when the log has stopped to grow.
	last := uint64(0)
	r.eventually("the client blocks the output", func() bool {
		before := last
		last = r.state().Log.Bytes
		<-time.After(20 * time.Millisecond)
		return last > 0 && last == before
	})
	r.call(wire.MethodResize, wire.ResizeSpec{Height: 1, Width: 2}, nil)
	r.call(wire.MethodCloseStdin, nil, nil)
	r.attach(wire.AttachSpec{Stdout: true})
	r.exec("e", "true")
	r.call(wire.MethodSignal, wire.SignalSpec{Signal: syscall.SIGKILL}, nil)
	if e := r.exited(wire.Init); e.Code != 137 {
		t.Errorf("exit %+v", e)
	}
	stuck.Close()
}
