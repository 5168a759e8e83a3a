package engine

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/problem"
)

// The errors of this package carry Docker's wording, which clients match on, and a class of errdefs, from which the
// server takes the HTTP status.

func notFound(format string, args ...any) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func conflict(format string, args ...any) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf(format, args...))
}

func internal(format string, args ...any) error {
	return errdefs.ErrInternal.WithMessage(fmt.Sprintf(format, args...))
}

func notModified(format string, args ...any) error {
	return errdefs.ErrNotModified.WithMessage(fmt.Sprintf(format, args...))
}

func errNoSuchContainer(ref string) error { return notFound("No such container: %s", ref) }

func errNotRunning(id string) error { return conflict("container %s is not running", id) }

// errNoTask is for a container without processes that the engine could reach.
func errNoTask(v *view) error {
	if v.live() && v.unadopted != nil {
		return errUnadopted(v)
	}
	return errNotRunning(v.ID)
}

// errUnadopted is for a container whose shim, of an earlier daemon, could not be taken up so far.
func errUnadopted(v *view) error {
	err := errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("container %s cannot be reached: %v", v.ID, v.unadopted))
	return problem.WithHint(err, "end it without its shim: porthole rm -f "+v.Name)
}

func errRestarting(id string) error {
	return conflict("Container %s is restarting, wait until the container is running", id)
}
