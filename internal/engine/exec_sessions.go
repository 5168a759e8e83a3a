package engine

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/event"
)

// ExecSession is an exec that runs.
type ExecSession struct {
	ID            string
	ContainerID   string
	Pid           int // the host's
	User          string
	Command       []string
	TTY           bool
	StartedAt     time.Time // zero: not known, since an earlier daemon has started it and kept no note
	Client        *event.Origin
	Attached      bool // a client is connected to its streams
	DieWithClient bool
}

// ContainerExecs lists the execs of a container that run, the oldest first.
func (e *Engine) ContainerExecs(_ context.Context, ref string) ([]ExecSession, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return nil, err
	}
	return e.sessions(c), nil
}

func (e *Engine) sessions(c *ctr) []ExecSession {
	v := c.view()
	list := []ExecSession{}
	for _, x := range e.execs.of(c.id) {
		if s, runs := x.session(v); runs {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b ExecSession) int {
		if n := a.StartedAt.Compare(b.StartedAt); n != 0 {
			return n
		}
		return a.Pid - b.Pid
	})
	return list
}

// session tells of an exec that this daemon has started.
func (x *execution) session(v *view) (s ExecSession, runs bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.proc == nil || x.ended {
		return s, false
	}
	s = ExecSession{
		ID: x.id, ContainerID: x.c.id, Pid: x.proc.Pid(), User: x.req.User, Command: x.req.Cmd, TTY: x.req.Tty,
		StartedAt: x.startedAt, Client: x.client, Attached: x.attached, DieWithClient: x.dieWithClient,
	}
	if s.User == "" {
		s.User = userOf(v)
	}
	return s, true
}

// userOf is as whom the processes of a container run unless they say otherwise.
func userOf(v *view) string {
	if v.Config != nil && v.Config.User != "" {
		return v.Config.User
	}
	return "root"
}

// ExecSignal sends a signal to an exec, which may be named by the beginning of its id. An empty name is SIGKILL. A
// process of a paused container gets it when that goes on.
func (e *Engine) ExecSignal(ctx context.Context, ref, name string) (ExecSession, error) {
	sig := syscall.SIGKILL
	if name != "" {
		var err error
		if sig, err = parseSignal(name); err != nil {
			return ExecSession{}, err
		}
	}
	s, p, err := e.findSession(ref)
	if err != nil {
		return ExecSession{}, err
	}
	return s, p.Signal(ctx, sig)
}

// findSession finds an exec that runs.
func (e *Engine) findSession(ref string) (found ExecSession, proc Process, err error) {
	ended := ""
	for _, x := range e.execs.beginning(ref) {
		s, runs := x.session(x.c.view())
		switch {
		case !runs:
			ended = x.id
		case proc != nil:
			return found, nil, invalid("multiple IDs found with provided prefix: %s", ref)
		default:
			found, proc = s, x.process()
		}
	}
	switch {
	case proc != nil:
		return found, proc, nil
	case ended != "":
		return found, nil, conflict("exec command %s is not running", ended)
	}
	return found, nil, notFound("No such exec instance: %s", ref)
}

func (x *execution) process() Process {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.proc
}

// ExecDieWithClient makes an exec that was created and not started end when its client goes away without detaching. With
// dies false one that runs, too, is let go: clients detach by going away.
func (e *Engine) ExecDieWithClient(_ context.Context, execID string, dies bool) error {
	x, err := e.execs.find(execID)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ended:
		return conflict("exec command %s has already run", x.id)
	case x.started && dies:
		return conflict("exec command %s is already running", x.id)
	}
	x.dieWithClient = dies
	return nil
}

// clientGone ends an exec that was to die with its client: it is asked to, and killed if it does not within a second.
func (e *Engine) clientGone(x *execution) {
	x.mu.Lock()
	proc, dies := x.proc, x.dieWithClient
	x.mu.Unlock()
	if !dies || proc == nil {
		return
	}
	e.goWork(func() {
		for _, step := range []struct {
			signal syscall.Signal
			wait   time.Duration
		}{{syscall.SIGHUP, 300 * time.Millisecond}, {syscall.SIGTERM, 700 * time.Millisecond}, {syscall.SIGKILL, 0}} {
			ctx, cancel := context.WithTimeout(e.life, execSignalTimeout)
			err := proc.Signal(ctx, step.signal)
			cancel()
			if err != nil {
				select {
				case <-proc.Done(): // by itself
				default:
					e.log.Warn("exec whose client is gone was not sent a signal", "container", x.c.id, "exec", x.id, "signal", int(step.signal), "err", err)
				}
			}
			timer := time.NewTimer(step.wait)
			select {
			case <-proc.Done():
				timer.Stop()
				return
			case <-e.life.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	})
}

// execSignalTimeout bounds the wait for a shim that does not answer.
const execSignalTimeout = 10 * time.Second

// beginning lists the execs whose id begins so.
func (t *execTable) beginning(ref string) []*execution {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*execution
	for id, x := range t.byID {
		if ref != "" && strings.HasPrefix(id, ref) {
			list = append(list, x)
		}
	}
	return list
}

// of lists the execs of a container.
func (t *execTable) of(container string) []*execution {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*execution
	for _, x := range t.byID {
		if x.c.id == container {
			list = append(list, x)
		}
	}
	return list
}
