package engine

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/events"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image"
)

// ImageLoadOptions belong to [Engine.ImageLoad].
type ImageLoadOptions struct {
	Platforms []ocispec.Platform // empty: this machine's
	Quiet     bool
}

// ImageImportOptions belong to [Engine.ImageImport].
type ImageImportOptions = image.ImportOptions

// ImageListOptions belong to [Engine.ImageList].
type ImageListOptions struct {
	All        bool
	SharedSize bool
	Manifests  bool
	Filters    Filters
}

// ImageRemoveOptions belong to [Engine.ImageRemove].
type ImageRemoveOptions struct {
	Force, NoPrune bool
	Platforms      []ocispec.Platform
}

// ImageLoad reads images from an archive. progress, which may be nil, gets values of jsonstream.Message. It returns the
// names, or the ids of images without one.
func (e *Engine) ImageLoad(ctx context.Context, r io.Reader, o ImageLoadOptions, progress func(any)) ([]string, error) {
	var forward func(jsonstream.Message)
	if progress != nil {
		forward = func(m jsonstream.Message) { progress(m) }
	}
	loaded, err := e.deps.Images.Load(ctx, r, image.LoadOptions{Platforms: o.Platforms, Quiet: o.Quiet}, forward)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range loaded {
		name := l.Name
		if name == "" {
			name = l.ID
		}
		names = append(names, name)
		e.emitImage(ctx, events.ActionLoad, l.ID, name)
	}
	return names, nil
}

// emitImage publishes an event about an image, with its labels as long as it is there.
func (e *Engine) emitImage(ctx context.Context, action events.Action, id, name string) {
	var labels map[string]string
	if img, err := e.deps.Images.Resolve(ctx, id); err == nil {
		labels = img.Config.Config.Labels
	}
	e.emitLabelled(ctx, action, id, name, labels)
}

func (e *Engine) emitLabelled(ctx context.Context, action events.Action, id, name string, labels map[string]string) {
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	attributes["name"] = name
	e.emitOther(ctx, events.ImageEventType, action, id, attributes)
}

// ImageSave writes an archive of the images named.
func (e *Engine) ImageSave(ctx context.Context, w io.Writer, refs []string, platforms []ocispec.Platform) error {
	if err := e.deps.Images.Save(ctx, w, refs, platforms); err != nil {
		return err
	}
	for _, ref := range refs {
		if img, err := e.deps.Images.Resolve(ctx, ref); err == nil {
			e.emitImage(ctx, events.ActionSave, img.ID, ref)
		}
	}
	return nil
}

// ImageImport makes an image of one layer from a tar stream and returns its id.
func (e *Engine) ImageImport(ctx context.Context, r io.Reader, o ImageImportOptions) (string, error) {
	id, err := e.deps.Images.Import(ctx, r, o)
	if err != nil {
		return "", err
	}
	if o.Repo != "" {
		name := o.Repo + ":" + cmp.Or(o.Tag, "latest")
		e.emitImage(ctx, events.ActionTag, id, name)
	}
	e.emitImage(ctx, events.ActionImport, id, id)
	return id, nil
}

// ImageList lists images.
func (e *Engine) ImageList(ctx context.Context, o ImageListOptions) ([]mobyimage.Summary, error) {
	uses := e.imageUses()
	return e.deps.Images.List(ctx, image.ListOptions{
		All: o.All, Filters: image.Filters(o.Filters), SharedSize: o.SharedSize, Manifests: o.Manifests,
		Used: func(id string) []image.Use { return uses[id] },
	})
}

// imageUses are the containers of each image, those that mount it included.
func (e *Engine) imageUses() map[string][]image.Use {
	uses := map[string][]image.Use{}
	for _, c := range e.registry.all() {
		v := c.view()
		use := image.Use{ID: c.id, Running: v.live()}
		uses[v.ImageID] = append(uses[v.ImageID], use)
		for _, m := range v.Mounts {
			if m.Type == mount.TypeImage && !slices.Contains(uses[m.Source], use) {
				uses[m.Source] = append(uses[m.Source], use)
			}
		}
	}
	return uses
}

// ImageInspect tells all about one image.
func (e *Engine) ImageInspect(ctx context.Context, ref string) (mobyimage.InspectResponse, error) {
	return e.deps.Images.Inspect(ctx, ref)
}

// ImageHistory tells the steps an image was made by.
func (e *Engine) ImageHistory(ctx context.Context, ref string) ([]mobyimage.HistoryResponseItem, error) {
	return e.deps.Images.History(ctx, ref)
}

// ImageLayers tells what each layer of an image has, and the largest files, at most so many, which are in one of them but
// hidden by another.
func (e *Engine) ImageLayers(ctx context.Context, ref string, hidden int) (image.Layering, error) {
	return e.deps.Images.MeasureLayers(ctx, ref, hidden)
}

// ImageBlame tells which layers of an image had to do with a path.
func (e *Engine) ImageBlame(ctx context.Context, ref, path string) (image.Blame, error) {
	return e.deps.Images.BlameLayers(ctx, ref, path)
}

// ImageTag gives an image another name.
func (e *Engine) ImageTag(ctx context.Context, src, dst string) error {
	if err := e.deps.Images.Tag(ctx, src, dst); err != nil {
		return err
	}
	if img, err := e.deps.Images.Resolve(ctx, dst); err == nil {
		e.emitImage(ctx, events.ActionTag, img.ID, img.Name)
	}
	return nil
}

// ImageRemove removes a name, and the image with its last name.
func (e *Engine) ImageRemove(ctx context.Context, ref string, o ImageRemoveOptions) ([]mobyimage.DeleteResponse, error) {
	if len(o.Platforms) > 0 {
		return nil, invalid("removing single platforms of an image is not supported")
	}
	img, err := e.deps.Images.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	gone, err := e.deps.Images.Remove(ctx, ref, image.RemoveOptions{
		Force: o.Force, NoPrune: o.NoPrune, Used: func(id string) []image.Use { return e.imageUses()[id] },
	})
	e.emitRemoved(ctx, img, gone)
	return gone, err
}

// emitRemoved tells of names and of an image that went. Layers have no events.
func (e *Engine) emitRemoved(ctx context.Context, img image.Image, gone []mobyimage.DeleteResponse) {
	for _, g := range gone {
		switch {
		case g.Untagged != "":
			e.emitLabelled(ctx, events.ActionUnTag, img.ID, img.ID, img.Config.Config.Labels)
		case g.Deleted == img.ID:
			e.emitImage(ctx, events.ActionDelete, img.ID, img.ID)
		}
	}
}

// ImagesPrune removes images that nothing uses.
func (e *Engine) ImagesPrune(ctx context.Context, f Filters) (mobyimage.PruneReport, error) {
	report, err := e.deps.Images.Prune(ctx, image.PruneOptions{
		Filters: image.Filters(f), Used: func(id string) []image.Use { return e.imageUses()[id] },
		Removed: func(img image.Image, gone []mobyimage.DeleteResponse) { e.emitRemoved(ctx, img, gone) },
	})
	if err != nil {
		return report, err
	}
	e.emitPrune(ctx, events.ImageEventType, report.SpaceReclaimed)
	return report, nil
}

// imageTotals sums up images for system df: what only unused images have could be reclaimed.
func imageTotals(total int64, list []mobyimage.Summary) *mobyimage.DiskUsage {
	u := &mobyimage.DiskUsage{TotalCount: int64(len(list)), TotalSize: total, Items: []mobyimage.Summary{}}
	used := int64(0)
	for _, s := range list {
		if s.Containers <= 0 {
			continue
		}
		u.ActiveCount++
		used += s.Size - max(s.SharedSize, 0)
	}
	u.Reclaimable = max(total-used, 0)
	return u
}
