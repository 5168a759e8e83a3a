package floor

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys/script"
)

// Exec executes true in the model container, as one of its processes.
func (f *Floor) Exec() ([]Phase, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	phases, err := f.exec()
	if err != nil {
		return nil, fmt.Errorf("the floor of an exec: %w", err)
	}
	return phases, nil
}

func (f *Floor) exec() ([]Phase, error) {
	own, err := os.Open("/proc/thread-self/ns/pid")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	begin := script.Now()
	pidns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", f.pid))
	if err != nil {
		return nil, err
	}
	defer pidns.Close()
	pidfd, err := unix.PidfdOpen(f.pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	g, err := f.openGroups()
	if err != nil {
		return nil, err
	}
	defer g.Close()
	opened := script.Now()

	s := script.New()
	entered := s.Time()
	s.Call(unix.SYS_SETNS, pidfd, unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP)
	becomeRoot(s)
	g.join(s)
	s.Call(unix.SYS_CHDIR, "/")
	rights, exec := f.execute(s)

	written := script.Now()
	pid, err := f.startIn(pidns, own, s, g)
	if err != nil {
		return nil, err
	}
	cloned := script.Now()
	if err := wait(pid, s); err != nil {
		return nil, err
	}
	end := script.Now()
	return []Phase{
		{"files of namespaces and cgroups opened", opened - begin},
		{"pid namespace, clone", cloned - written},
		{"child: namespaces, keyring, cgroups", s.At(rights) - s.At(entered)},
		{"child: capabilities, seccomp filter", s.At(exec) - s.At(rights)},
		{"exec of true, its end seen", end - s.At(exec)},
		// What the script took to write is no work of the kernel.
		{Total, end - begin - (written - opened)},
	}, nil
}

// startIn starts the child in a pid namespace, which is that of this thread's
// children meanwhile.
func (f *Floor) startIn(pidns, own *os.File, s *script.Script, g *groups) (pid int, err error) {
	if err := unix.Setns(int(pidns.Fd()), unix.CLONE_NEWPID); err != nil {
		return 0, os.NewSyscallError("setns", err)
	}
	defer func() {
		if e := unix.Setns(int(own.Fd()), unix.CLONE_NEWPID); e != nil {
			err = errors.Join(err, fmt.Errorf("leave the container's pid namespace: %w", e))
		}
	}()
	return s.Start(script.Clone{Cgroup: uintptr(g.v2)})
}
