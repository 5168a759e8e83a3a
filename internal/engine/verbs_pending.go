package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

var errPending = errdefs.ErrNotImplemented.WithMessage("this build does not have that verb yet")

// ContainerTop lists the processes of a container in the columns that ps options ask for.
func (e *Engine) ContainerTop(ctx context.Context, ref, psArgs string) (*container.TopResponse, error) {
	return nil, errPending
}

// ContainerStats calls fn with one sample, or with one each second while stream is set.
func (e *Engine) ContainerStats(ctx context.Context, ref string, stream, oneShot bool, fn func(*container.StatsResponse) error) error {
	return errPending
}
