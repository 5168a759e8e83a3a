package shim

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// threshold is a thread of the shim that stands in the container's namespaces,
// so that what it forks is born there. It is made for the first exec and kept
// for the next ones: a new thread for each would cost time and, with its
// stacks, memory. It must not be the main thread, which Go cannot end and
// which stands for the process in /proc; main keeps that one locked.
type threshold struct {
	jobs chan func()
	done chan struct{}
}

func newThreshold() *threshold {
	t := &threshold{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		for job := range t.jobs {
			job()
		}
	}()
	return t
}

// do runs fn on the thread, in the namespaces of p.
func (t *threshold) do(p *process, fn func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() {
		err := p.join(0)
		if err == nil {
			err = fn()
		}
		result <- err
	}
	return <-result
}

// close ends the thread, and with it the shim's hold on the namespaces.
func (t *threshold) close() {
	close(t.jobs)
	<-t.done
}

// inPIDNamespace runs fn on a thread whose children are born in ns. It happens
// once in a container's life, so the thread ends afterwards.
func inPIDNamespace(ns *os.File, fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID)
		if err != nil {
			err = os.NewSyscallError("setns", err)
		} else {
			err = fn()
		}
		result <- err
	}()
	return <-result
}

// joinable are the namespaces that a process is forked into. The mount
// namespace is entered by the stage itself, and the user namespace is the
// shim's own.
var joinable = []struct {
	name string
	flag int
}{
	{"pid_for_children", unix.CLONE_NEWPID},
	{"net", unix.CLONE_NEWNET},
	{"uts", unix.CLONE_NEWUTS},
	{"ipc", unix.CLONE_NEWIPC},
	{"cgroup", unix.CLONE_NEWCGROUP},
}

// outside runs fn on a thread of its own in the namespaces of p but that of its
// pids. The threshold cannot be used: the namespace of its children is p's, and
// the shim has not the right to go back to its own.
func (p *process) outside(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		err := p.join(unix.CLONE_NEWPID)
		if err == nil {
			err = fn()
		}
		result <- err
	}()
	return <-result
}

// join makes the calling thread enter those namespaces of p, but for the kinds
// except, in which it is not yet. The others need not be entered, and could not always be: a cgroup
// namespace of the host belongs to the host's user namespace.
func (p *process) join(except int) error {
	flags, err := p.foreignNamespaces()
	flags &^= except
	if err != nil || flags == 0 {
		return err
	}
	err = control(p.pidfd, func(fd int) error { return unix.Setns(fd, flags) })
	if errors.Is(err, os.ErrClosed) {
		return noProcess(p.id) // reaped meanwhile
	}
	if err != nil {
		return fmt.Errorf("enter namespaces (%#x) of pid %d: %w", flags, p.pid, err)
	}
	return nil
}

func (p *process) foreignNamespaces() (int, error) {
	flags := 0
	its := "/proc/" + strconv.Itoa(p.pid) + "/ns/"
	for _, ns := range joinable {
		same, err := sameFile("/proc/thread-self/ns/"+ns.name, its+ns.name)
		if err != nil {
			return 0, fmt.Errorf("compare %s namespace with that of pid %d: %w", ns.name, p.pid, err)
		}
		if !same {
			flags |= ns.flag
		}
	}
	return flags, nil
}

func sameFile(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Stat(a, &sa); err != nil {
		return false, &os.PathError{Op: "stat", Path: a, Err: err}
	}
	if err := unix.Stat(b, &sb); err != nil {
		return false, &os.PathError{Op: "stat", Path: b, Err: err}
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}
