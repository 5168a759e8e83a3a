package engine

import (
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/problem"

	"github.com/containerd/errdefs"
)

// TraceTarget is a running container that is to be traced.
type TraceTarget struct {
	ID, Name   string
	Group, App uint64          // cgroup ids of its group, and of that of its processes
	Done       <-chan struct{} // closed when it has ended
}

// maxTraces may go on at the same time: each has a ring of some megabytes.
const maxTraces = 8

// Trace gives a running container to be traced. The caller calls release when that has ended.
func (e *Engine) Trace(ref string) (t TraceTarget, release func(), err error) {
	v, err := e.runningView(ref)
	if err != nil {
		return t, nil, err
	}
	t = TraceTarget{ID: v.ID, Name: v.Name, Done: v.task.Done()}
	group := e.groupOf(v.ID)
	if t.Group, err = group.ID(""); err == nil {
		t.App, err = group.ID(cgroup.App)
	}
	if err != nil {
		return t, nil, err
	}
	if t.Group == 0 {
		return t, nil, errdefs.ErrNotImplemented.WithMessage("containers cannot be traced: there is no cgroup v2 tree, by which their processes are told from others")
	}
	select {
	case e.traces <- struct{}{}:
	default:
		return t, nil, problem.WithHint(conflict("%d traces go on already", maxTraces), "end one of them first")
	}
	return t, func() { <-e.traces }, nil
}
