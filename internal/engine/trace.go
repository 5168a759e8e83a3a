package engine

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ns"
	netkeeper "github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/problem"
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
	release, err = e.beginTrace()
	return t, release, err
}

// beginTrace takes one of the places for traces.
func (e *Engine) beginTrace() (release func(), err error) {
	select {
	case e.traces <- struct{}{}:
		return func() { <-e.traces }, nil
	default:
		return nil, problem.WithHint(conflict("%d traces go on already", maxTraces), "end one of them first")
	}
}

// QueriesTarget is a running container whose questions for names are to be followed.
type QueriesTarget struct {
	ID, Name string
	NetNS    *os.File // closed by release
	// Shared tells that others are in its network: the host, or other containers.
	Shared bool
	Pids   func() ([]int, error) // of its processes, on the host
	Done   <-chan struct{}       // closed when it has ended
	// Follow gives what is asked of the name server that we have in the container, and AskedByUs tells of a socket that
	// it is of that server; nil: there is none.
	Follow    func(ctx context.Context, fn func(netkeeper.Followed) error) error
	AskedByUs func(ctx context.Context, proto string, local netip.AddrPort) (bool, error)
}

// TraceQueries gives a running container whose questions for names are to be followed. The caller calls release when that
// has ended.
func (e *Engine) TraceQueries(ref string) (t QueriesTarget, release func(), err error) {
	v, err := e.runningView(ref)
	if err != nil {
		return t, nil, err
	}
	owner := networkOwner(v)
	t = QueriesTarget{ID: v.ID, Name: v.Name, Pids: v.task.Pids, Done: v.task.Done()}
	for _, r := range e.Residents() {
		t.Shared = t.Shared || r.ID != v.ID && r.Pid > 0 && r.NetworkOf == owner
	}
	if e.deps.Network.AsksUs(owner) {
		t.Follow = func(ctx context.Context, fn func(netkeeper.Followed) error) error {
			return e.deps.Network.Follow(ctx, owner, fn)
		}
		t.AskedByUs = func(ctx context.Context, proto string, local netip.AddrPort) (bool, error) {
			return e.deps.Network.AskedByUs(ctx, owner, proto, local)
		}
	}
	if t.NetNS, err = v.task.NetNS(); err != nil {
		return t, nil, err
	}
	host, err := isOurs(t.NetNS)
	t.Shared = t.Shared || host
	var done func()
	if err == nil {
		done, err = e.beginTrace()
	}
	if err != nil {
		return t, nil, errors.Join(err, t.NetNS.Close())
	}
	return t, func() {
		done()
		_ = t.NetNS.Close()
	}, nil
}

// isOurs tells whether a network namespace is that of the daemon, and so the host's.
func isOurs(netns *os.File) (bool, error) {
	own, err := ns.Open(os.Getpid(), ns.Net)
	if err != nil {
		return false, err
	}
	defer own.Close()
	return ns.Same(own, netns)
}
