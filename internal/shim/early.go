package shim

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// A stage takes a millisecond to come up, and knows nothing of what it is to do
// until it gets its plan. So it is forked as soon as somebody is likely to want
// it: the first process's when the shim begins, an exec's when the daemon says
// so. Until then it holds nothing but its end of the socket pair. Each is used
// once, or ended.

// Early says how the stage of the first process is to be born, if that is known
// before the process itself is. The stage then comes up while the daemon still
// prepares what goes into the plan.
type Early struct {
	// CloneFlags is as in wire.StartSpec.
	CloneFlags uintptr
	// Cgroup is the directory of a v2 cgroup, which the shim closes, or nil.
	Cgroup *os.File
}

// forkEarly forks the stage that was announced. Whoever asks for it will be told
// if that cannot be done: it is tried again then.
func (s *Server) forkEarly() {
	e := s.cfg.Early
	if e == nil {
		return
	}
	defer e.Cgroup.Close() // nil is fine
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if p, err := s.fork(birth{flags: e.CloneFlags, cgroup: e.Cgroup}); err == nil {
		s.early = p
	}
}

// expect forks the stage of an exec that will soon be asked for.
func (s *Server) expect(c *call) (any, error) {
	var spec wire.ExpectSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	first, err := s.process(wire.Init)
	if err != nil {
		return nil, err
	}
	if s.statusOf(first) != running {
		return nil, &wire.Error{Step: "expect", Errno: syscall.ESRCH, Message: "expect: the container is not running"}
	}
	group, err := c.takeOne(spec.IntoCgroup)
	if err != nil {
		return nil, fmt.Errorf("expect: %w", err)
	}
	defer group.Close() // nil is fine
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if s.isEnding() || s.expected != nil && s.expected.lives() {
		return nil, nil
	}
	p, err := s.fork(birth{cgroup: group, beside: first})
	if err != nil {
		return nil, fmt.Errorf("expect: %w", err)
	}
	s.expected = p
	s.expiry = time.AfterFunc(wire.ExpectTime, func() { s.expire(p) })
	return nil, nil
}

// stage gives the caller a stage that was forked early, if one was born as the
// caller wants it, or else a new one.
func (s *Server) stage(at birth) (*process, error) {
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	var p *process
	switch e := s.cfg.Early; {
	case at.expected && s.expected != nil:
		p, s.expected = s.expected, nil
		s.expiry.Stop()
	case at.beside == nil && s.early != nil && at.flags == e.CloneFlags && at.pidns == nil && (at.cgroup != nil) == (e.Cgroup != nil):
		p, s.early = s.early, nil
	}
	if p != nil && p.lives() {
		return p, nil
	}
	p.discard()
	return s.fork(at)
}

// expire ends a stage that was expected in vain.
func (s *Server) expire(p *process) {
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if s.expected == p {
		s.expected = nil
		p.discard()
	}
}

// dropStages ends what nobody wanted. The shim is ending.
func (s *Server) dropStages() {
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.early.discard()
	s.expected.discard()
	s.early, s.expected = nil, nil
}

// discard ends a stage that has no plan; its collector does the rest. Nil is fine.
func (p *process) discard() {
	if p == nil {
		return
	}
	_ = p.signal(syscall.SIGKILL) // unless it has ended by itself
	p.stage.Close()
}

// lives says whether a process has not ended, collected or not.
func (p *process) lives() bool {
	dead := true
	err := control(p.pidfd, func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		dead = n > 0
		return err
	})
	return err == nil && !dead
}

func (s *Server) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}
