package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/ledger"
)

// Ledger tells whose the bytes below the data root are.
func (e *Engine) Ledger(ctx context.Context) (*ledger.Ledger, error) {
	return ledger.Take(ctx, e.config.DataRoot, e.meter, e.claims)
}

// places are where the daemon's parts keep what is one's own.
var places = []ledger.Claim{
	{Path: "events", Owner: ledger.Journal},
	{Path: "deaths", Owner: ledger.Deaths},
	{Path: coresDir, Owner: ledger.Cores},
	{Path: "network", Owner: ledger.Network},
	{Path: "trash", Owner: ledger.Removing},
	{Path: "build", Owner: ledger.BuildCache},
	{Path: "state.db", Owner: ledger.Database, Part: "containers"},
	{Path: remainsDir, Owner: ledger.Deaths},
	{Path: "engine-id", Owner: ledger.Daemon, Part: "files"},
	{Path: watchDir, Owner: ledger.Daemon, Part: "files"},
	{Path: historyDir, Owner: ledger.Daemon, Part: "files"},
	{Path: "portholed.lock", Owner: ledger.Daemon, Part: "files"},
	ledger.Structure(containersDir), ledger.Structure(imagesDir), ledger.Structure(volumesDir),
}

// Where in the data root things of many owners are.
const (
	containersDir = "containers"
	coresDir      = "cores"
	imagesDir     = "images"
	remainsDir    = "removed"
	volumesDir    = "volumes"
)

// claims collects what the parts claim, and gives containers' names to what is theirs. What seems to be a container's but
// is of none that is known, or being made, is nobody's.
func (e *Engine) claims(ctx context.Context) ([]ledger.Claim, error) {
	images, err := e.deps.Images.Claims(ctx)
	if err != nil {
		return nil, err
	}
	volumes, err := e.deps.Volumes.Claims()
	if err != nil {
		return nil, err
	}
	names := e.registry.ids()
	maps.Copy(names, e.remains.names())
	list := append(slices.Clone(places), e.containerClaims(names)...)
	for _, c := range images {
		c.Path = path.Join(imagesDir, c.Path)
		if c.Owner == ledger.Container && c.Users == nil {
			name, known := names[c.ID]
			if !known {
				continue
			}
			c.Name = name
		}
		list = append(list, c)
	}
	for _, c := range volumes {
		c.Path = path.Join(volumesDir, c.Path)
		list = append(list, c)
	}
	return list, nil
}

func (e *Engine) containerClaims(names map[string]string) []ledger.Claim {
	var list []ledger.Claim
	for id, name := range names {
		own := func(part string, more ...string) {
			p := path.Join(append([]string{containersDir, id}, more...)...)
			list = append(list, ledger.Claim{Path: p, Owner: ledger.Container, ID: id, Name: name, Part: part})
		}
		own("state")
		own("log", "logs")
		own("samples", "samples")
		own("activity", "activity")
	}
	return list
}

// containerSizes are what a container has written, and that with the size of its image. One that goes meanwhile has no
// size.
func (e *Engine) containerSizes(ctx, patience context.Context, id string) (rw, total int64, err error) {
	below, err := e.deps.Images.RootFSBaseSize(ctx, id)
	if errdefs.IsNotFound(err) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	rw, err = e.apparent(ctx, patience, e.deps.Images.RootFSDir(id))
	if err != nil {
		return 0, 0, fmt.Errorf("size of container %s: %w", id, err)
	}
	return rw, rw + below, nil
}

// apparent is the size of a tree as Docker counts; 0 if it is not there.
func (e *Engine) apparent(ctx, patience context.Context, dir string) (int64, error) {
	size, _, err := e.meter.Tree(ctx, patience, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return size.Apparent, err
}

// volumeSize is the size of what is in a volume, as Docker counts.
func (e *Engine) volumeSize(ctx, patience context.Context, name string) (int64, error) {
	return e.apparent(ctx, patience, e.deps.Volumes.Path(name))
}

// OrphansPrune removes what is below the data root and nobody's. It leaves what another file system is mounted in.
func (e *Engine) OrphansPrune(ctx context.Context) ([]ledger.Account, error) {
	l, err := e.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	gone := []ledger.Account{}
	var failed []error
	for _, a := range l.Accounts {
		if a.Owner != ledger.Orphan {
			continue
		}
		if err := e.removeOrphan(ctx, a); err != nil {
			failed = append(failed, err)
			continue
		}
		e.log.Info("orphan removed", "path", a.Path, "bytes", a.Size.Disk)
		gone = append(gone, a)
	}
	return gone, errors.Join(failed...)
}

func (e *Engine) removeOrphan(ctx context.Context, a ledger.Account) error {
	if a.Size.Mounts > 0 {
		return conflict("%s is not removed: another file system is mounted in it", a.Path)
	}
	dir, id := path.Split(a.Path)
	if wholeID.MatchString(id) && (dir == containersDir+"/" || dir == imagesDir+"/layers/rootfs/") {
		e.removeLeftover(ctx, id) // it may have processes yet
	}
	if err := os.RemoveAll(filepath.Join(e.config.DataRoot, filepath.FromSlash(a.Path))); err != nil {
		return fmt.Errorf("remove orphan: %w", err)
	}
	return nil
}
