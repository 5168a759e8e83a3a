package shim

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// exec starts the stage of one more process in the container and returns when
// it has entered and waits. No byte of such a process passes through the shim.
func (s *Server) exec(c *call) (any, error) {
	var spec wire.ExecSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	if spec.ID == "" || spec.ID == wire.Init {
		return nil, &wire.Error{Step: "exec", Errno: syscall.EINVAL, Message: fmt.Sprintf("exec: %q is no id for a process", spec.ID)}
	}
	first, err := s.process(wire.Init)
	if err != nil {
		return nil, err
	}
	if s.statusOf(first) != running {
		return nil, &wire.Error{Step: "exec", Errno: syscall.ESRCH, Message: "exec: the container is not running"}
	}
	stdio, err := execStdio(c, spec.Terminal)
	if err != nil {
		return nil, err
	}
	defer closeFiles(stdio[:])
	group, err := c.takeOne(spec.IntoCgroup)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	defer group.Close() // nil is fine
	p, pty, err := s.enter(first, spec, stdio, group, c)
	if err != nil {
		return nil, err
	}
	if pty != nil {
		c.reply = append(c.reply, pty)
		if spec.Size != (wire.Size{}) {
			if err := setSize(pty, spec.Size); err != nil {
				s.abandon(p)
				return nil, err
			}
		}
	}
	s.move(p, created)
	return wire.Created{PID: p.pid}, nil
}

func (s *Server) statusOf(p *process) status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.status
}

func execStdio(c *call, terminal bool) (stdio [3]*os.File, err error) {
	if !terminal {
		files, err := c.take(3)
		if err != nil {
			return stdio, fmt.Errorf("exec: %w", err)
		}
		return [3]*os.File(files), nil
	}
	for i := range stdio {
		if stdio[i], err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
			closeFiles(stdio[:i])
			return stdio, err
		}
	}
	return stdio, nil
}

// enter forks the stage in the namespaces of first and has it prepare.
func (s *Server) enter(first *process, spec wire.ExecSpec, stdio [3]*os.File, group *os.File, c *call) (*process, *os.File, error) {
	mnt, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", first.pid))
	if err != nil {
		return nil, nil, fmt.Errorf("exec: %w", err)
	}
	defer mnt.Close()
	flags, err := foreignNamespaces(first.pid)
	if err != nil {
		return nil, nil, fmt.Errorf("exec: %w", err)
	}
	p, err := s.launch(spec.ID, spec.Args, stdio, birth{cgroup: group, before: func() error { return first.join(flags) }})
	if err != nil {
		return nil, nil, err
	}
	pty, err := p.prepare(c.payload, append([]*os.File{mnt}, c.files...))
	if err == nil && spec.Terminal && pty == nil {
		err = &wire.Error{Step: "pty", Message: "pty: the stage opened no terminal"}
	}
	if err != nil {
		s.abandon(p)
		return nil, nil, err
	}
	return p, pty, nil
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

// foreignNamespaces tells which namespaces of a process are not the shim's.
// Those that are need not be entered, and could not always be: a cgroup
// namespace of the host belongs to the host's user namespace.
func foreignNamespaces(pid int) (int, error) {
	flags := 0
	for _, ns := range joinable {
		var own, its unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+ns.name, &own); err != nil {
			return 0, fmt.Errorf("look at own %s namespace: %w", ns.name, err)
		}
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, ns.name), &its); err != nil {
			return 0, fmt.Errorf("look at %s namespace of pid %d: %w", ns.name, pid, err)
		}
		if own.Dev != its.Dev || own.Ino != its.Ino {
			flags |= ns.flag
		}
	}
	return flags, nil
}

// join enters namespaces of p with the calling thread.
func (p *process) join(flags int) error {
	if flags == 0 {
		return nil
	}
	rc, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = unix.Setns(int(fd), flags) }); err != nil {
		return noProcess(p.id)
	}
	if serr != nil {
		return fmt.Errorf("enter namespaces (%#x) of pid %d: %w", flags, p.pid, serr)
	}
	return nil
}

// onOwnThread runs the functions on a thread that ends afterwards. It must not
// be the main thread, which Go cannot end and which stands for the process in
// /proc: main keeps that one locked.
func onOwnThread(fns ...func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		for _, fn := range fns {
			if err := fn(); err != nil {
				result <- err
				return
			}
		}
		result <- nil
	}()
	return <-result
}
