package shim

import (
	"os"
	"syscall"
)

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
	p, err := s.fork(birth{flags: e.CloneFlags, cgroup: e.Cgroup})
	if err != nil {
		return
	}
	s.mu.Lock()
	s.early = p
	s.mu.Unlock()
}

// takeEarly gives the stage that was forked early to the caller, if it was born
// as the caller wants it; nil if there is none.
func (s *Server) takeEarly(at birth) *process {
	e := s.cfg.Early
	if e == nil || at.flags != e.CloneFlags || at.pidns != nil || at.beside != nil || (at.cgroup != nil) != (e.Cgroup != nil) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.early
	s.early = nil
	return p
}

// dropEarly ends a stage that nobody wanted.
func (s *Server) dropEarly() {
	s.mu.Lock()
	p := s.early
	s.early = nil
	s.mu.Unlock()
	if p == nil {
		return
	}
	_ = p.signal(syscall.SIGKILL) // unless it has ended by itself
	if err := p.wait(); err != nil {
		s.note(err)
	}
	p.stage.Close()
}
