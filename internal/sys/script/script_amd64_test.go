package script

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs a script to its end and returns the child's exit code.
func run(t *testing.T, s *Script, c Clone) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	return ws.ExitStatus()
}

// A script's calls are done in order, with memory, strings and lists as
// arguments, beside a parent that goes on and changes what comes later.
func TestScript(t *testing.T) {
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := New()
	before := s.Time()
	wait := s.Call(unix.SYS_READ, gate[0], make([]byte, 1), 1)
	s.Try(unix.SYS_CHDIR, "/no/such/directory")
	s.Call(unix.SYS_UNSHARE, unix.CLONE_FILES)
	s.Call(unix.SYS_DUP3, int(w.Fd()), 1, 0)
	after := s.Time()
	exec := s.Call(unix.SYS_EXECVE, "/no/such/program", []string{"sh", "-c", "echo $WORD; exit 3"}, []string{"WORD=late"})
	done := make(chan int)
	go func() { done <- run(t, s, Clone{}) }()
	// The child waits at its first read.
	program := append([]byte("/bin/sh"), 0)
	s.SetArg(exec, 0, s.Address(program))
	if _, err := unix.Write(gate[1], []byte{0}); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 3 || s.Failed() != nil {
		t.Fatalf("exit code %d, %v, want 3", code, s.Failed())
	}
	buf := make([]byte, 16)
	if n, err := r.Read(buf); err != nil || string(buf[:n]) != "late\n" {
		t.Errorf("the program wrote %q, %v", buf[:n], err)
	}
	if s.At(before) <= 0 || s.At(before) > s.At(after) || s.At(after) > Now() {
		t.Errorf("times %v, %v, now %v", s.At(before), s.At(after), Now())
	}
	if got := s.calls[wait].result; got != 1 {
		t.Errorf("read returned %d, want 1", got)
	}
}

// A call that fails ends the child, and is named.
func TestFailure(t *testing.T) {
	s := New()
	s.Call(unix.SYS_CHDIR, "/no/such/directory")
	s.Call(unix.SYS_EXECVE, "/bin/true", []string{"true"}, []string{})
	if code := run(t, s, Clone{}); code != 127 {
		t.Errorf("exit code %d, want 127", code)
	}
	if err := s.Failed(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want ENOENT", err)
	}
}
