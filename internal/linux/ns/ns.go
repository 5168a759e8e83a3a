// Package ns enters Linux namespaces and names them.
//
// A namespace is entered by one thread, not by a process: [Do] runs a function
// on a thread of its own, which ends with the function, so that no goroutine
// ever finds itself in a namespace that it did not ask for.
package ns

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Kind is a kind of namespace, named as in /proc/PID/ns.
type Kind string

// The kinds.
const (
	Cgroup Kind = "cgroup"
	IPC    Kind = "ipc"
	Mount  Kind = "mnt"
	Net    Kind = "net"
	PID    Kind = "pid"
	Time   Kind = "time"
	User   Kind = "user"
	UTS    Kind = "uts"
)

// Flag is the kind's CLONE_NEW* flag, 0 for an unknown kind.
func (k Kind) Flag() uintptr {
	switch k {
	case Cgroup:
		return unix.CLONE_NEWCGROUP
	case IPC:
		return unix.CLONE_NEWIPC
	case Mount:
		return unix.CLONE_NEWNS
	case Net:
		return unix.CLONE_NEWNET
	case PID:
		return unix.CLONE_NEWPID
	case Time:
		return unix.CLONE_NEWTIME
	case User:
		return unix.CLONE_NEWUSER
	case UTS:
		return unix.CLONE_NEWUTS
	}
	return 0
}

// Open opens the namespace of kind k that process pid is in.
func Open(pid int, k Kind) (*os.File, error) {
	return os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + string(k))
}

// Same says whether a and b are the same namespace.
func Same(a, b *os.File) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Fstat(int(a.Fd()), &sa); err != nil {
		return false, &os.PathError{Op: "stat", Path: a.Name(), Err: err}
	}
	if err := unix.Fstat(int(b.Fd()), &sb); err != nil {
		return false, &os.PathError{Op: "stat", Path: b.Name(), Err: err}
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}

// Entry is a namespace to enter.
type Entry struct {
	Kind Kind
	File *os.File
}

// Do runs f on a new thread that has entered the namespaces, in order. The
// thread has its own working directory, root and umask and ends with f; what f
// starts with `go` does not run there.
func Do(entries []Entry, f func() error) error {
	return OnThread(func() error {
		for _, e := range entries {
			if err := unix.Setns(int(e.File.Fd()), int(e.Kind.Flag())); err != nil {
				return fmt.Errorf("enter %s namespace: %w", e.Kind, err)
			}
		}
		return f()
	})
}

// OnThread runs f on a new thread which shares neither working directory, root
// nor umask with others and which ends with f: it may change its credentials
// and namespaces as it likes.
func OnThread(f func() error) error {
	done := make(chan error)
	go func() {
		// The goroutine ends locked, and its thread with it.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self shows it: leave it
			// alone and take another. It is kept busy until that one runs.
			inner := make(chan error)
			go func() {
				runtime.LockOSThread()
				inner <- alone(f)
			}()
			err := <-inner
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- alone(f)
	}()
	return <-done
}

func alone(f func() error) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare filesystem attributes: %w", err)
	}
	return f()
}

// LoopbackUp brings the interface lo of the calling thread's network namespace up.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
