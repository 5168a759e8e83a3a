// Package mounted tells what is mounted in a container, and whether that still is
// what its sources have.
//
// A bind mount is of a file or directory, not of its name. A program that writes a
// new file and renames it over the old one, as editors and sed -i do, leaves the
// container with the old one, and nothing tells. [Look] compares the two.
//
// The mounts are looked at in the container's own mount namespace, through the
// kernel's table and by descriptors opened beneath its root; nothing is mounted,
// read or changed. A filesystem that does not answer is told as such after a while.
package mounted

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	mobymount "github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/patient"
)

// Source is what is asked: the engine.
type Source interface {
	Subject(ref string) (engine.Subject, error)
	VolumeUsers(volume, but string) []string
}

var _ Source = (*engine.Engine)(nil)

// Options select what is told.
type Options struct {
	Container string // name or id
	All       bool   // also what nobody asked for, as /proc
}

// patience is how long a filesystem has to answer.
const patience = 2 * time.Second

// Look tells of a container's mounts. It waits for nobody but for a filesystem
// that does not answer, two seconds for each. A container that does not exist
// gives errdefs.ErrNotFound.
func Look(ctx context.Context, src Source, o Options) (*api.Mounts, error) {
	sub, live, err := open(src, o.Container)
	if err != nil {
		return nil, err
	}
	defer live.Close()
	out := &api.Mounts{ContainerID: sub.ID, Name: sub.Name, Status: string(sub.Status), Mounts: []api.Mount{}}
	key := fmt.Sprintf("mounts of %s %d ", sub.ID, sub.Pid) // in this life of it
	for _, m := range sub.Mounts {
		found := plain(m)
		seen, answered := within(ctx, key+m.Destination, func() api.Mount {
			found := found
			if live == nil {
				idle(m, &found)
			} else {
				live.look(m, &found)
			}
			return found
		})
		switch {
		case answered:
			found = seen
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			found.State, found.Note = api.MountNoAnswer, "the filesystem has not answered for "+patience.String()
		}
		if m.Type == mobymount.TypeVolume {
			found.UsedBy = src.VolumeUsers(m.Name, sub.ID)
		}
		out.Mounts = append(out.Mounts, found)
	}
	if !o.All || live == nil {
		return out, nil
	}
	others, answered := within(ctx, key, func() []api.Mount { return live.others(sub.Mounts) })
	if !answered {
		return nil, fmt.Errorf("look at the mounts of container %s that nobody asked for: %w", sub.Name, errdefs.ErrUnavailable.WithMessage("a filesystem does not answer"))
	}
	out.Mounts = append(out.Mounts, others...)
	return out, nil
}

// plain is what is known of a mount without looking.
func plain(m state.Mount) api.Mount {
	out := api.Mount{
		Destination: m.Destination, Kind: string(m.Type), Name: m.Name, Source: m.Source, Subpath: m.Subpath, ReadOnly: !m.RW,
		Propagation: strings.TrimPrefix(string(m.Propagation), "r"),
	}
	if m.Type == mobymount.TypeTmpfs {
		out.Options = slices.Clone(m.Options)
	}
	return out
}

// within gives up on fn when it does not return in time, and says so by false. The
// key names what it looks at.
func within[T any](ctx context.Context, key string, fn func() T) (T, bool) {
	result, err := patient.Within(ctx, key, patience, func() (T, error) { return fn(), nil })
	return result, err == nil
}
