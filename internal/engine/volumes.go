package engine

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"github.com/portholehq/porthole/internal/volume"
)

// VolumeCreate makes a volume or returns the one that exists under that name.
func (e *Engine) VolumeCreate(ctx context.Context, req mobyvolume.CreateRequest) (*mobyvolume.Volume, error) {
	if req.Driver != "" && req.Driver != "local" {
		return nil, notFound("create %s: error looking up volume plugin %s: plugin %q not found", req.Name, req.Driver, req.Driver)
	}
	if req.ClusterVolumeSpec != nil {
		return nil, invalid("cluster volumes are not supported")
	}
	name := req.Name
	if name == "" {
		name = randomID()
	}
	info, err := e.deps.Volumes.Create(name, volume.CreateOptions{Labels: req.Labels, Options: req.DriverOpts, Anonymous: req.Name == ""})
	if errdefs.IsInvalidArgument(err) {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	if info.Created {
		e.emitOther(ctx, events.VolumeEventType, events.ActionCreate, name, map[string]string{"driver": "local"})
	}
	return apiVolume(info), nil
}

// apiVolume is a volume as the API has it. As with Docker, labels and options that there are none of are null.
func apiVolume(info volume.Info) *mobyvolume.Volume {
	v := &mobyvolume.Volume{
		Name: info.Name, Driver: "local", Mountpoint: info.Path, Scope: "local", CreatedAt: info.CreatedAt.Format(time.RFC3339),
	}
	if len(info.Labels) > 0 {
		v.Labels = info.Labels
	}
	if len(info.Options) > 0 {
		v.Options = info.Options
	}
	return v
}

// VolumeList lists volumes by name.
func (e *Engine) VolumeList(_ context.Context, f Filters) (*mobyvolume.ListResponse, error) {
	if err := f.Check("dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	match, err := e.volumeFilter(f)
	if err != nil {
		return nil, err
	}
	r := &mobyvolume.ListResponse{Volumes: []mobyvolume.Volume{}, Warnings: []string{}}
	for _, info := range e.deps.Volumes.List() {
		if match(info) {
			r.Volumes = append(r.Volumes, *apiVolume(info))
		}
	}
	slices.SortFunc(r.Volumes, func(a, b mobyvolume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func (e *Engine) volumeFilter(f Filters) (func(volume.Info) bool, error) {
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	var names []*regexp.Regexp
	for _, n := range f["name"] {
		re, err := regexp.Compile(n)
		if err != nil {
			re = regexp.MustCompile(regexp.QuoteMeta(n))
		}
		names = append(names, re)
	}
	return func(v volume.Info) bool {
		if !f.Exact("driver", "local") || !f.Labels("label", v.Labels) {
			return false
		}
		if f.Has("dangling") && dangling == (len(e.volumeUsers(v.Name, "")) > 0) {
			return false
		}
		return len(names) == 0 || slices.ContainsFunc(names, func(re *regexp.Regexp) bool { return re.MatchString(v.Name) })
	}, nil
}

// VolumeInspect tells all about one volume.
func (e *Engine) VolumeInspect(_ context.Context, name string) (*mobyvolume.Volume, error) {
	info, err := e.deps.Volumes.Get(name)
	if err != nil {
		return nil, err
	}
	return apiVolume(info), nil
}

// VolumeRemove removes a volume that no container uses. force makes a missing one no error.
func (e *Engine) VolumeRemove(ctx context.Context, name string, force bool) error {
	if _, err := e.deps.Volumes.Get(name); err != nil {
		if force && errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	return e.removeVolume(ctx, name, "")
}

// removeVolume removes a volume that no container but one, which is being removed, has or is about to have.
func (e *Engine) removeVolume(ctx context.Context, name, but string) error {
	done, err := e.pins.unlessPinned(name, func() error {
		if users := e.volumeUsers(name, but); len(users) > 0 {
			return conflict("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer done()
	if err := e.deps.Volumes.Remove(name); err != nil {
		return err
	}
	e.emitOther(ctx, events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	return nil
}

// pinboard keeps volumes from being removed between the moment in which a creation has chosen them and the one in which
// its container is known.
type pinboard struct {
	mu       sync.Mutex
	pins     map[string]int
	removing map[string]bool
}

func newPinboard() *pinboard { return &pinboard{pins: map[string]int{}, removing: map[string]bool{}} }

// pin holds a volume until the returned function is called.
func (b *pinboard) pin(name string) (unpin func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.removing[name] {
		return nil, conflict("volume %s is being removed", name)
	}
	b.pins[name]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pins[name]--; b.pins[name] == 0 {
			delete(b.pins, name)
		}
	}, nil
}

// unlessPinned lets a volume be removed if nobody holds it and check finds nothing against it. Until done is called
// nobody can pin it.
func (b *pinboard) unlessPinned(name string, check func() error) (done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pins[name] > 0 || b.removing[name] {
		return nil, conflict("remove %s: volume is in use", name)
	}
	if err := check(); err != nil {
		return nil, err
	}
	b.removing[name] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.removing, name)
	}, nil
}

// VolumesPrune removes volumes that nothing uses: anonymous ones, or with all=1 every one.
func (e *Engine) VolumesPrune(ctx context.Context, f Filters) (mobyvolume.PruneReport, error) {
	report := mobyvolume.PruneReport{VolumesDeleted: []string{}}
	if err := f.Check("all", "label", "label!"); err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	for _, v := range e.deps.Volumes.List() {
		if (!v.Anonymous && !all) || !f.Labels("label", v.Labels) || (f.Has("label!") && f.Labels("label!", v.Labels)) || len(e.volumeUsers(v.Name, "")) > 0 {
			continue
		}
		size, err := e.volumeSize(ctx, ctx, v.Name)
		if err == nil {
			err = e.removeVolume(ctx, v.Name, "")
		}
		if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
			continue // somebody was faster
		}
		if err != nil {
			return report, fmt.Errorf("remove volume %s: %w", v.Name, err)
		}
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		report.SpaceReclaimed += uint64(size)
	}
	e.emitPrune(ctx, events.VolumeEventType, report.SpaceReclaimed)
	return report, nil
}

func (e *Engine) emitPrune(ctx context.Context, typ events.Type, bytes uint64) {
	e.emitOther(ctx, typ, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(bytes, 10)})
}
