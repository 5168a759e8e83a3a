package engine

import (
	"fmt"

	"github.com/containerd/errdefs"
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

func errRestarting(id string) error {
	return conflict("Container %s is restarting, wait until the container is running", id)
}
