package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
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

// ContainerUpdate changes limits and restart policy.
func (e *Engine) ContainerUpdate(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error) {
	return container.UpdateResponse{}, errPending
}

// ContainersPrune removes stopped containers.
func (e *Engine) ContainersPrune(ctx context.Context, f Filters) (container.PruneReport, error) {
	return container.PruneReport{}, errPending
}

// Events calls fn for past events since o.Since, then for each new one until o.Until or the end of ctx.
func (e *Engine) Events(ctx context.Context, o EventsOptions, fn EventFunc) error { return errPending }

// Info tells about the daemon and its host.
func (e *Engine) Info(ctx context.Context) (*system.Info, error) { return nil, errPending }

// Version tells what this build is. The API versions are filled in by the server.
func (e *Engine) Version(ctx context.Context) (*system.VersionResponse, error) {
	return nil, errPending
}

// SystemDiskUsage tells what occupies the data root; kinds empty means all.
func (e *Engine) SystemDiskUsage(ctx context.Context, kinds []system.DiskUsageObject, verbose bool) (*system.DiskUsage, error) {
	return nil, errPending
}

// Inspector tells what the engine is doing: operations under way with their age, listeners, queues.
func (e *Engine) Inspector() Inspection { return Inspection{} }
