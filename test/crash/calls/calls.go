// Package calls stands beside a program and sees each system call by which it changes files, before the kernel does it:
//
//	func TestMain(m *testing.M) { calls.Main(); … }
//
//	w := &calls.Watch{Decide: func(c calls.Call) calls.Effect { … }}
//	after, err := w.Prepare(cmd) // cmd is not started yet
//	err = cmd.Start()
//	err = after()
//
// So a test can have a disk be full or broken, and a process end, within libraries that know nothing of tests, and in the
// middle of a write. The program itself is the one that people get: it is started with a filter of seccomp(2) that gives these
// calls to a listener, which is the test's.
//
// All that the program starts has the filter as well. A watch goes on until the last of them has ended: without a listener
// their calls would fail.
package calls

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/sys"
)

// Call is a call that waits for a decision.
type Call struct {
	// Name is that of the kernel, as pwrite64 or renameat. An openat is one that may make a file.
	Name string
	// Path is of the file that is changed, the new one of two. It is absolute, unless it is no file: "pipe:[1]".
	Path string
	// Size is how many bytes are to be written; 0 for other calls.
	Size int

	thread int
	args   [6]uint64
}

// PID is the id of the process that makes the call; 0 if it has ended.
func (c Call) PID() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.thread))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nTgid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pid, _ := strconv.Atoi(line)
	return pid
}

// Effect is what becomes of a call. The zero value: the kernel does it.
type Effect struct {
	// Error is what it fails with.
	Error unix.Errno
	// Half has the first half of a write be done; without Kill the program is told so.
	Half bool
	// Kill ends the process then, by SIGKILL.
	Kill bool
}

// Watch decides on the calls of a program. Decide is called by one goroutine, and the program waits for it.
type Watch struct {
	Decide func(Call) Effect
}

// names are the calls that are seen.
var names = []string{
	"write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice",
	"fsync", "fdatasync", "sync_file_range", "syncfs", "ftruncate", "fallocate",
	"openat", "rename", "renameat", "renameat2", "link", "linkat", "symlinkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat",
}

// variable tells a test binary that it is to become another program, and by which descriptor the listener is awaited.
const variable = "PORTHOLE_TEST_CALLS"

// Prepare has cmd, of this very program's binary, become the program that it was to be with a filter. after is to be called
// once it is started.
func (w *Watch) Prepare(cmd *exec.Cmd) (after func() error, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "listener")
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%d", variable, 2+len(cmd.ExtraFiles)))
	cmd.Args = append([]string{"calls", cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	return func() error {
		defer unix.Close(pair[0])
		if err := theirs.Close(); err != nil {
			return err
		}
		listener, err := receive(pair[0])
		if err != nil {
			return fmt.Errorf("watch system calls: %w", err)
		}
		go w.serve(listener)
		return nil
	}, nil
}

// Main becomes the program, if this process was made by Prepare. It is to be called before all else.
func Main() {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	err := become(text)
	fmt.Fprintln(os.Stderr, "calls:", err)
	os.Exit(1)
}

func become(text string) error {
	fd, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	if err := os.Unsetenv(variable); err != nil {
		return err
	}
	env := os.Environ()
	// The filter is this thread's, which becomes the program.
	runtime.LockOSThread()
	listener, err := sys.Seccomp(sys.SeccompProgram(program()), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if err != nil {
		return fmt.Errorf("load filter: %w", err)
	}
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	unix.CloseOnExec(listener)
	return unix.Exec(os.Args[1], os.Args[2:], env)
}

// program gives names to the listener, and of openat what has O_CREAT.
func program() []unix.SockFilter {
	const (
		offNumber, offFlags = 0, 16 + 2*8 // of struct seccomp_data
		load                = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equals              = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer              = unix.BPF_RET | unix.BPF_K
	)
	list := []unix.SockFilter{{Code: load, K: offNumber}}
	for _, name := range names {
		number, ok := syscalls.Number(runtime.GOARCH, name)
		switch {
		case !ok: // of another machine
		case name == "openat":
			list = append(list, unix.SockFilter{Code: equals, Jf: 4, K: number},
				unix.SockFilter{Code: load, K: offFlags},
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: unix.O_CREAT},
				unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF},
				unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
		default:
			list = append(list, unix.SockFilter{Code: equals, Jf: 1, K: number}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF})
		}
	}
	return append(list, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
}

// receive gets a descriptor.
func receive(socket int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New("the program did not begin")
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// serve answers until all that have the filter have ended.
func (w *Watch) serve(listener int) {
	defer unix.Close(listener)
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			panic(err)
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			if ready[0].Revents != 0 {
				return
			}
			continue
		}
		n, err := sys.SeccompReceive(listener)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			panic(err)
		}
		a, goesOn := w.answer(n)
		if !goesOn {
			continue
		}
		if err := sys.SeccompRespond(listener, a); err != nil && !errors.Is(err, unix.ENOENT) {
			panic(err)
		}
	}
}

// answer tells what a call returns. One whose process is killed does not return, and must not be done.
func (w *Watch) answer(n sys.SeccompCall) (a sys.SeccompAnswer, goesOn bool) {
	a = sys.SeccompAnswer{ID: n.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	c, err := describe(n)
	if err != nil {
		return a, true // it has ended, or its arguments are wrong
	}
	e := w.Decide(c)
	if e == (Effect{}) {
		return a, true
	}
	pid, done := c.PID(), 0
	if e.Half && c.Size > 1 {
		done = c.writeHalf(pid)
	}
	if e.Kill {
		return a, unix.Kill(pid, unix.SIGKILL) != nil
	}
	if done > 0 {
		return sys.SeccompAnswer{ID: n.ID, Value: int64(done)}, true
	}
	return sys.SeccompAnswer{ID: n.ID, Error: -int32(e.Error)}, true
}

// describe finds out what a call is about.
func describe(n sys.SeccompCall) (c Call, err error) {
	c = Call{Name: syscalls.Name(runtime.GOARCH, uint32(n.Number)), thread: int(n.PID), args: n.Args}
	a := n.Args
	switch c.Name {
	case "write", "pwrite64":
		c.Size = int(a[2])
		fallthrough
	case "writev", "pwritev", "pwritev2", "sendfile", "fsync", "fdatasync", "sync_file_range", "syncfs", "ftruncate", "fallocate":
		c.Path, err = c.file(a[0])
	case "copy_file_range", "splice":
		c.Path, err = c.file(a[2])
	case "openat", "unlinkat", "mkdirat":
		c.Path, err = c.path(a[0], a[1])
	case "symlinkat":
		c.Path, err = c.path(a[1], a[2])
	case "renameat", "renameat2", "linkat":
		c.Path, err = c.path(a[2], a[3])
	case "rename", "link":
		c.Path, err = c.path(cwd, a[1])
	default:
		c.Path, err = c.path(cwd, a[0])
	}
	return c, err
}

// cwd is AT_FDCWD, which is an int.
const cwd = uint64(1<<32 + unix.AT_FDCWD)

func (c Call) file(fd uint64) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.thread, int32(fd)))
}

func (c Call) path(dir, at uint64) (string, error) {
	text := make([]byte, unix.PathMax)
	n, err := unix.ProcessVMReadv(c.thread, []unix.Iovec{vector(text)}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(text)}}, 0)
	if err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(text[:n], []byte{0})
	path := string(name)
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	var base string
	if int32(dir) == unix.AT_FDCWD {
		base, err = os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.thread))
	} else {
		base, err = c.file(dir)
	}
	return filepath.Join(base, path), err
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// writeHalf does half of a write in the process's stead, and tells how much; 0: it could not.
func (c Call) writeHalf(pid int) int {
	text := make([]byte, c.Size/2)
	n, err := unix.ProcessVMReadv(c.thread, []unix.Iovec{vector(text)}, []unix.RemoteIovec{{Base: uintptr(c.args[1]), Len: len(text)}}, 0)
	if err != nil || n < len(text) {
		return 0
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, int(int32(c.args[0])), 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if c.Name == "pwrite64" {
		n, err = unix.Pwrite(fd, text, int64(c.args[3]))
	} else {
		n, err = unix.Write(fd, text)
	}
	if err != nil {
		return 0
	}
	return n
}
