package engine

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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

// ImageLoad reads images from an archive; progress may be nil.
func (e *Engine) ImageLoad(ctx context.Context, r io.Reader, o ImageLoadOptions, progress func(any)) ([]string, error) {
	return nil, errPending
}

// ImageSave writes an archive of the images named.
func (e *Engine) ImageSave(ctx context.Context, w io.Writer, refs []string, platforms []ocispec.Platform) error {
	return errPending
}

// ImageImport makes an image of one layer from a tar stream and returns its id.
func (e *Engine) ImageImport(ctx context.Context, r io.Reader, o ImageImportOptions) (string, error) {
	return "", errPending
}

// ImageList lists images.
func (e *Engine) ImageList(ctx context.Context, o ImageListOptions) ([]image.Summary, error) {
	return nil, errPending
}

// ImageInspect tells all about one image.
func (e *Engine) ImageInspect(ctx context.Context, ref string) (image.InspectResponse, error) {
	return image.InspectResponse{}, errPending
}

// ImageHistory tells the steps an image was made by.
func (e *Engine) ImageHistory(ctx context.Context, ref string) ([]image.HistoryResponseItem, error) {
	return nil, errPending
}

// ImageTag gives an image another name.
func (e *Engine) ImageTag(ctx context.Context, src, dst string) error { return errPending }

// ImageRemove removes a name, and the image with its last name.
func (e *Engine) ImageRemove(ctx context.Context, ref string, o ImageRemoveOptions) ([]image.DeleteResponse, error) {
	return nil, errPending
}

// ImagesPrune removes images that nothing uses.
func (e *Engine) ImagesPrune(ctx context.Context, f Filters) (image.PruneReport, error) {
	return image.PruneReport{}, errPending
}

// NetworkList lists networks.
func (e *Engine) NetworkList(ctx context.Context, f Filters) ([]network.Summary, error) {
	return nil, errPending
}

// NetworkInspect tells all about one network.
func (e *Engine) NetworkInspect(ctx context.Context, ref string) (*network.Inspect, error) {
	return nil, errPending
}

// VolumeCreate makes a volume or returns the one that exists under that name.
func (e *Engine) VolumeCreate(ctx context.Context, req volume.CreateRequest) (*volume.Volume, error) {
	return nil, errPending
}

// VolumeList lists volumes.
func (e *Engine) VolumeList(ctx context.Context, f Filters) (*volume.ListResponse, error) {
	return nil, errPending
}

// VolumeInspect tells all about one volume.
func (e *Engine) VolumeInspect(ctx context.Context, name string) (*volume.Volume, error) {
	return nil, errPending
}

// VolumeRemove removes a volume that no container uses.
func (e *Engine) VolumeRemove(ctx context.Context, name string, force bool) error { return errPending }

// VolumesPrune removes volumes that nothing uses.
func (e *Engine) VolumesPrune(ctx context.Context, f Filters) (volume.PruneReport, error) {
	return volume.PruneReport{}, errPending
}

// Inspector tells what the engine is doing: operations under way with their age, listeners, queues.
func (e *Engine) Inspector() Inspection { return Inspection{} }
