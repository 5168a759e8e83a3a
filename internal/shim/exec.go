package shim

import (
	"fmt"
	"os"
	"syscall"

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
	p, err := s.launch(spec.ID, spec.Args, birth{cgroup: group, beside: first, outside: spec.Outside, expected: spec.Expected})
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	p.note = spec.Note
	s.mu.Unlock()
	pty, err := p.prepare(c.payload, stdio, append([]*os.File{mnt}, c.files...))
	if err == nil && spec.Terminal && pty == nil {
		err = &wire.Error{Step: "pty", Message: "pty: the stage opened no terminal"}
	}
	if err != nil {
		s.abandon(p)
		if spec.Expected && p.endedEarly {
			// The container can see a stage that waits in it, and end it. That it was
			// ended shows only when its last thread is gone.
			spec.Expected = false
			return s.enter(first, spec, stdio, group, c)
		}
		return nil, nil, err
	}
	return p, pty, nil
}

// onThreshold runs fn on a thread in the namespaces of p. The caller holds
// forkMu.
func (s *Server) onThreshold(p *process, fn func() error) error {
	if s.threshold == nil {
		s.threshold = newThreshold()
	}
	return s.threshold.do(p, fn)
}

// leaveThreshold ends the thread for execs, if there is one.
func (s *Server) leaveThreshold() {
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if s.threshold != nil {
		s.threshold.close()
		s.threshold = nil
	}
}
