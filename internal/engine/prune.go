package engine

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/moment"
)

// ContainersPrune removes containers that do not run.
func (e *Engine) ContainersPrune(ctx context.Context, f Filters) (container.PruneReport, error) {
	report := container.PruneReport{ContainersDeleted: []string{}}
	if err := f.Check("until", "label", "label!"); err != nil {
		return report, err
	}
	until, err := untilFilter(f)
	if err != nil {
		return report, err
	}
	for _, c := range e.registry.all() {
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		v := c.view()
		if v.live() || !f.Labels("label", v.Config.Labels) || (f.Has("label!") && f.Labels("label!", v.Config.Labels)) || (!until.IsZero() && v.Created.After(until)) {
			continue
		}
		rw, _, err := e.containerSizes(ctx, ctx, c.id)
		if err != nil {
			e.log.Warn("size of container is not known", "container", c.id, "err", err)
		}
		if err := e.ContainerRemove(ctx, c.id, RemoveOptions{}); err != nil {
			e.log.Warn("container was not pruned", "container", c.id, "err", err)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.id)
		report.SpaceReclaimed += uint64(rw)
	}
	if !f.Has("label") && !f.Has("label!") {
		size, err := e.pruneRemains(ctx, until)
		if err != nil {
			e.log.Warn("containers were not pruned", "err", err)
		}
		report.SpaceReclaimed += uint64(size)
	}
	e.emitPrune(ctx, events.ContainerEventType, report.SpaceReclaimed)
	return report, nil
}

// untilFilter reads a moment: a time, seconds since the epoch, or how long ago.
func untilFilter(f Filters) (time.Time, error) {
	values := f["until"]
	switch len(values) {
	case 0:
		return time.Time{}, nil
	case 1:
	default:
		return time.Time{}, invalid("more than one until filter specified")
	}
	at, err := moment.Parse(values[0], time.Now())
	if err != nil {
		return time.Time{}, invalid("%v", err)
	}
	return at, nil
}

// SystemDiskUsage tells what occupies the data root; no kinds means all. The items are listed if verbose.
func (e *Engine) SystemDiskUsage(ctx context.Context, kinds []system.DiskUsageObject, verbose bool) (*system.DiskUsage, error) {
	du := &system.DiskUsage{}
	wants := func(k system.DiskUsageObject) bool { return len(kinds) == 0 || slices.Contains(kinds, k) }
	for _, part := range []struct {
		kind system.DiskUsageObject
		read func(context.Context, *system.DiskUsage, bool) error
	}{
		{system.ContainerObject, e.containerUsage}, {system.ImageObject, e.imageUsage}, {system.VolumeObject, e.volumeUsage},
	} {
		if !wants(part.kind) {
			continue
		}
		if err := part.read(ctx, du, verbose); err != nil {
			return nil, err
		}
	}
	return du, nil
}

func (e *Engine) containerUsage(ctx context.Context, du *system.DiskUsage, verbose bool) error {
	list, err := e.ContainerList(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return err
	}
	u := &container.DiskUsage{TotalCount: int64(len(list)), Items: []container.Summary{}}
	for _, s := range list {
		u.TotalSize += s.SizeRw
		switch s.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += s.SizeRw
		}
		if verbose {
			u.Items = append(u.Items, *s)
		}
	}
	du.ContainerUsage = u
	return nil
}

func (e *Engine) imageUsage(ctx context.Context, du *system.DiskUsage, verbose bool) error {
	uses := e.imageUses()
	list, err := e.deps.Images.List(ctx, image.ListOptions{All: true, SharedSize: true, Used: func(id string) []image.Use { return uses[id] }})
	if err != nil {
		return err
	}
	total, err := e.deps.Images.DiskUsage(ctx)
	if err != nil {
		return err
	}
	u := imageTotals(total.Layers+total.Content, list)
	if verbose {
		u.Items = list
	}
	du.ImageUsage = u
	return nil
}

func (e *Engine) volumeUsage(ctx context.Context, du *system.DiskUsage, verbose bool) error {
	patience, cancel := context.WithTimeout(ctx, sizePatience)
	defer cancel()
	u := &mobyvolume.DiskUsage{Items: []mobyvolume.Volume{}}
	for _, info := range e.deps.Volumes.List() {
		size, err := e.volumeSize(ctx, patience, info.Name)
		if err != nil {
			return err
		}
		users := int64(len(e.volumeUsers(info.Name, "")))
		u.TotalCount++
		u.TotalSize += size
		if users > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += size
		}
		if verbose {
			v := apiVolume(info)
			v.UsageData = &mobyvolume.UsageData{RefCount: users, Size: size}
			u.Items = append(u.Items, *v)
		}
	}
	du.VolumeUsage = u
	return nil
}
