// Package look shows what containers have and do at this moment, without entering
// them: their processes as trees ([Trees]), their sockets ([Sockets]), their open
// files ([Files]), and how they are kept apart from the host ([Isolation]).
//
// All is read from the host's /proc, control groups and netlink, so that nothing
// needs to be in the container's image, and nothing of the container is changed.
// What could wait for the container, as a command line does for a process whose
// memory is being changed, is given up after [patience] and said to be unknown.
package look

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/ps"
)

// Source is where containers are known: the engine.
type Source interface {
	Subject(ref string) (engine.Subject, error)
	Subjects() []engine.Subject
	ContainerList(ctx context.Context, o engine.ListOptions) ([]*container.Summary, error)
	Processes(ref string) ([]ps.Info, error)
	ContainerExecs(ctx context.Context, ref string) ([]engine.ExecSession, error)
	Addresses() map[netip.Addr]string
}

var _ Source = (*engine.Engine)(nil)

// running is a container that has processes, or an error that says that it has none.
func running(src Source, ref string) (engine.Subject, error) {
	s, err := src.Subject(ref)
	switch {
	case err != nil:
		return s, err
	case s.Pid > 0:
		return s, nil
	case s.Unadopted != nil:
		return s, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("container %s cannot be reached: %v", s.ID, s.Unadopted))
	}
	return s, problem.WithHint(errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running: it is %s", s.Name, s.Status)), "porthole why "+s.Name)
}

// patience is how long is waited for what may wait for a container.
const patience = time.Second

// turns are the looks that are under way, by what they look at. At each only one
// looks at a time, so that one stuck process holds up one thread however often it
// is looked at.
type turns struct {
	mu   sync.Mutex
	open map[string]chan struct{} // closed when the look ends
}

var looks = turns{open: map[string]chan struct{}{}}

// take begins a look, or returns what to wait for before.
func (t *turns) take(key string) (wait <-chan struct{}, end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if open, busy := t.open[key]; busy {
		return open, nil
	}
	done := make(chan struct{})
	t.open[key] = done
	return nil, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, key)
		close(done)
	}
}

// within does fn, and gives it up after [patience] or with ctx. The key names what
// it looks at.
func within[T any](ctx context.Context, key string, fn func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	done := make(chan answer, 1)
	late := time.NewTimer(patience)
	defer late.Stop()
	slow := errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("no answer within %s: some process of it may be stuck", patience))
	for {
		wait, end := looks.take(key)
		if wait == nil {
			go func() {
				defer end()
				value, err := fn()
				done <- answer{value, err}
			}()
		}
		select {
		case <-wait:
		case a := <-done:
			return a.value, a.err
		case <-late.C:
			return none, slow
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
