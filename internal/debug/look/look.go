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
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/patient"
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

// within does fn, and gives it up after [patience] or with ctx. The key names what
// it looks at.
func within[T any](ctx context.Context, key string, fn func() (T, error)) (T, error) {
	value, err := patient.Within(ctx, key, patience, fn)
	if errors.Is(err, patient.ErrLate) {
		err = errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("no answer within %s: some process of it may be stuck", patience))
	}
	return value, err
}
