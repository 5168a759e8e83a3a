// Package script has a child process do a list of system calls and nothing else:
// what its time goes for is the kernel's work alone.
//
//	s := script.New()
//	s.Call(unix.SYS_SETHOSTNAME, "box", 3)
//	at := s.Time()
//	s.Call(unix.SYS_EXECVE, "/bin/true", []string{"true"}, []string{})
//	pid, err := s.Start(script.Clone{Flags: unix.CLONE_NEWUTS})
//	...
//	s.At(at) // when it had got there
//
// The child has the memory and the table of descriptors of this process until it
// executes something, as with vfork(2), but this process goes on meanwhile: it
// may change arguments that the child has not come to yet. No Go code runs in
// the child. It is for measuring, and made for one architecture.
package script

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is one system call. script_amd64.s knows the layout.
type call struct {
	number  uintptr
	args    [6]uintptr
	result  uintptr // what the kernel has returned
	mayFail uintptr // not 0: go on whatever it returns
}

// Script is a list of system calls, in order. It is used once, by one goroutine.
type Script struct {
	calls []call
	keep  [][]byte // memory that arguments point to
	names [][]uintptr
	times map[int]*unix.Timespec
}

// New returns an empty script.
func New() *Script { return &Script{times: map[int]*unix.Timespec{}} }

// Call adds a system call and returns its index. Arguments are numbers (int,
// uintptr), memory ([]byte, not empty) and strings, which the kernel gets with a
// zero byte at the end, and lists of these with a nil at the end. When it fails
// the child ends with code 127.
func (s *Script) Call(number uintptr, args ...any) int {
	c := call{number: number}
	for i, a := range args {
		switch v := a.(type) {
		case int:
			c.args[i] = uintptr(v)
		case uintptr:
			c.args[i] = v
		case string:
			c.args[i] = s.text(v)
		case []byte:
			c.args[i] = s.Address(v)
		case []string:
			list := make([]uintptr, len(v)+1)
			for j, text := range v {
				list[j] = s.text(text)
			}
			s.names = append(s.names, list)
			c.args[i] = uintptr(unsafe.Pointer(&list[0]))
		default:
			panic(fmt.Sprintf("script: argument %d of system call %d is a %T", i, number, a))
		}
	}
	s.calls = append(s.calls, c)
	return len(s.calls) - 1
}

// Try is Call for what may fail.
func (s *Script) Try(number uintptr, args ...any) int {
	i := s.Call(number, args...)
	s.calls[i].mayFail = 1
	return i
}

func (s *Script) text(v string) uintptr { return s.Address(append([]byte(v), 0)) }

// Address is where b is, for memory that holds addresses itself; b is kept as
// long as s.
func (s *Script) Address(b []byte) uintptr {
	s.keep = append(s.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Filter is a struct sock_fprog for a seccomp program, 8 bytes an instruction.
func (s *Script) Filter(program []byte) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint16(b, uint16(len(program)/8))
	binary.NativeEndian.PutUint64(b[8:], uint64(s.Address(program)))
	return b
}

// Time has the child write down when it comes there.
func (s *Script) Time() int {
	at := new(unix.Timespec)
	i := s.Call(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(at)))
	s.times[i] = at
	return i
}

// At is when the child came to the call that Time has added, on the clock of
// [Now].
func (s *Script) At(i int) time.Duration { return time.Duration(s.times[i].Nano()) }

// Now is the time of the clock CLOCK_MONOTONIC.
func Now() time.Duration {
	var at unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &at) // cannot fail
	return time.Duration(at.Nano())
}

// SetArg changes argument n of call i, which the child must not have come to.
func (s *Script) SetArg(i, n int, v uintptr) { s.calls[i].args[n] = v }

// Failed says which call the child has ended with, after its end; nil if none.
func (s *Script) Failed() error {
	for i, c := range s.calls {
		if errno := -int(c.result); errno > 0 && errno < 4096 && c.mayFail == 0 {
			return fmt.Errorf("system call %d, number %d of the script: %w", c.number, i, syscall.Errno(errno))
		}
	}
	return nil
}

// Clone says how the child is made.
type Clone struct {
	// Flags are CLONE_NEW*.
	Flags uint64
	// Cgroup is the descriptor of the v2 cgroup that the child is born into; 0:
	// that of this thread.
	Cgroup uintptr
}

// cloneArgs is struct clone_args of linux/sched.h.
type cloneArgs struct {
	flags      uint64
	_          [3]uint64
	exitSignal uint64
	_          [5]uint64
	cgroup     uint64
}

// Start starts the child, whose end the caller waits for, while s is in use. The
// calling goroutine has to be locked to its thread.
func (s *Script) Start(c Clone) (pid int, err error) {
	if runtime.GOARCH != "amd64" {
		return 0, fmt.Errorf("script for %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	args := &cloneArgs{
		flags: c.Flags | unix.CLONE_VM | unix.CLONE_FILES, exitSignal: uint64(unix.SIGCHLD),
	}
	if c.Cgroup != 0 {
		args.flags, args.cgroup = args.flags|unix.CLONE_INTO_CGROUP, uint64(c.Cgroup)
	}
	// A signal must not call Go's handler in the child, on our stack.
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, fmt.Errorf("block signals: %w", err)
	}
	r := start(args, unsafe.Sizeof(*args), &s.calls[0], uintptr(len(s.calls)))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return 0, fmt.Errorf("allow signals: %w", err)
	}
	if int(r) < 0 {
		return 0, fmt.Errorf("clone3: %w", syscall.Errno(-int(r)))
	}
	return int(r), nil
}
