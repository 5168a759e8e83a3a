package shim

import (
	"cmp"
	"os"
	"runtime"
	"slices"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// state tells all about the shim. It takes no lock that anybody holds for
// long, so it answers whatever the container does.
func (s *Server) state(c *call) (any, error) {
	s.mu.Lock()
	if s.exit != nil {
		c.after = s.noteExitAsked
	}
	st := wire.State{Status: wire.StatusNone, Exit: s.exit, Exited: s.exit != nil, PlanFormat: s.cfg.PlanFormat}
	if p := s.first; p != nil {
		st.Status, st.PID, st.StartedAt, st.Steps = p.status.String(), p.pid, p.startedAt, p.steps
	}
	if s.exit != nil {
		st.Status = wire.StatusExited
	}
	for id, p := range s.procs {
		if p != nil {
			st.Processes = append(st.Processes, wire.ProcessInfo{ID: id, PID: p.pid, Status: p.status.String(), Args: p.args, Note: p.note})
		}
	}
	st.Ended = slices.Clone(s.exits)
	st.Terminal, st.OpenStdin = s.spec.Terminal, s.spec.OpenStdin
	st.Self = wire.Diagnostics{
		PID: os.Getpid(), Version: s.cfg.Version, Connections: len(s.conns), Problems: slices.Clone(s.problems),
	}
	out := s.out
	s.mu.Unlock()
	slices.SortFunc(st.Processes, func(a, b wire.ProcessInfo) int { return cmp.Compare(a.PID, b.PID) })
	if out != nil {
		st.Clients, st.Log = out.info()
	}
	s.look(&st.Self)
	return st, nil
}

// noteExitAsked notes that a daemon has been told of the exit, if the answer was sent.
func (s *Server) noteExitAsked(sent bool) {
	if !sent {
		return
	}
	select {
	case s.exitAsked <- struct{}{}:
	default: // somebody has before
	}
}

func (s *Server) look(d *wire.Diagnostics) {
	d.Goroutines = runtime.NumGoroutine()
	d.Threads = entries("/proc/self/task")
	d.Files = entries("/proc/self/fd")
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	d.HeapBytes = ms.HeapAlloc
}

func entries(dir string) int {
	list, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	return len(list)
}

func (o *output) info() (clients int, log wire.LogInfo) {
	o.clientsMu.Lock()
	clients = len(o.clients)
	o.clientsMu.Unlock()
	st := o.log.Stats()
	log = wire.LogInfo{Options: o.spec.Log.WithDefaults(), Lines: st.Lines, Bytes: st.Bytes, Lost: st.Lost}
	if st.Err != nil {
		log.LastError = st.Err.Error()
	}
	return clients, log
}
