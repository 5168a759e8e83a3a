package engine

import (
	"context"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"syscall"

	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/tartree"
)

// A mount with the option idmap shows what belongs to the owner of its source as the container's user's. On the host
// nothing changes hands: what the user makes there belongs to the source's owner. Since each id has to stand for one
// other, the two change places; all others stay what they are.

// checkSwaps refuses the option where the kernel could not follow it.
func (e *Engine) checkSwaps(mounts []state.Mount) error {
	for _, m := range mounts {
		if !m.SwapOwner {
			continue
		}
		err := e.noMapping
		if err == nil && m.Type == mobymount.TypeBind {
			err = e.mapper.tryBind(m)
		}
		if err == nil && m.Type == mobymount.TypeVolume {
			err = e.tryVolume(m)
		}
		if err != nil {
			return problem.WithHint(invalid("option idmap of the mount at %s: its source cannot be ID-mapped: %v", m.Destination, err),
				"give the source to the container's user with chown, or run as its owner with --user")
		}
	}
	return nil
}

// swapOwners puts the id mappings of such mounts into a container's document.
func (e *Engine) swapOwners(ctx context.Context, v *view, document *specs.Spec) error {
	if !slices.ContainsFunc(v.Mounts, func(m state.Mount) bool { return m.SwapOwner }) {
		return nil
	}
	f := &containerFS{}
	if err := e.merge(ctx, f, v, fsUse{bare: true}); err != nil {
		return err
	}
	defer f.Close()
	user, err := f.user(v)
	if err != nil {
		return nil // a user who cannot be found is for the start to complain of, in Docker's words
	}
	for _, m := range v.Mounts {
		if !m.SwapOwner {
			continue
		}
		src, err := mount.OpenSource(m.Source, m.Subpath)
		if err != nil {
			return err
		}
		uids, gids, err := swap(src, user, v.IDs)
		src.Close()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(document.Mounts, func(d specs.Mount) bool { return path.Clean(d.Destination) == m.Destination })
		document.Mounts[i].UIDMappings, document.Mounts[i].GIDMappings = specMappings(uids), specMappings(gids)
	}
	return nil
}

// user is whom a container's program runs as, by the container's ids.
func (f *containerFS) user(v *view) (tartree.Owner, error) {
	user, err := f.owner(v.Config.User)
	if err != nil || user == nil {
		return tartree.Owner{}, err
	}
	return *user, nil
}

// swap are the mappings of a mount of src in a container with these ids.
func swap(src *os.File, user tartree.Owner, ids state.IDRange) (uids, gids []syscall.SysProcIDMap, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: src.Name(), Err: err}
	}
	return swapIDs(st.Uid, uint32(user.UID), ids), swapIDs(st.Gid, uint32(user.GID), ids), nil
}

// swapIDs maps the ids on a disk to those of the host that a container has in their place, but for two, which change
// places. An owner beyond the container's ids becomes the user, and the user nobody. A user beyond them is none whom the
// container can have: the start says so, and nothing changes places.
func swapIDs(owner, user uint32, ids state.IDRange) []syscall.SysProcIDMap {
	size := ids.Size
	if size == 0 {
		size = math.MaxUint32 // all there are: the last number is none
	}
	var list []syscall.SysProcIDMap
	add := func(disk, inside, n uint32) {
		if n > 0 {
			list = append(list, syscall.SysProcIDMap{ContainerID: int(disk), HostID: int(ids.Host + inside), Size: int(n)})
		}
	}
	low, high := min(owner, user), max(owner, user)
	switch {
	case low == high, low >= size:
		add(0, 0, size)
		return list
	case high >= size:
		add(0, 0, low)
		add(low+1, low+1, size-low-1)
		if user < size {
			add(owner, user, 1)
		}
		return list
	}
	add(0, 0, low)
	add(low, high, 1)
	add(low+1, low+1, high-low-1)
	add(high, low, 1)
	add(high+1, high+1, size-high-1)
	return list
}

// swapNamespace is a user namespace that shows a source's owners as the mount does in a container whose user this is.
func swapNamespace(src *os.File, user tartree.Owner, ids state.IDRange) (*os.File, error) {
	uids, gids, err := swap(src, user, ids)
	if err != nil {
		return nil, err
	}
	f, err := ns.NewUser(uids, gids)
	if err != nil {
		return nil, fmt.Errorf("show owners: %w", err)
	}
	return f, nil
}

func specMappings(list []syscall.SysProcIDMap) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(list))
	for i, m := range list {
		out[i] = specs.LinuxIDMapping{ContainerID: uint32(m.ContainerID), HostID: uint32(m.HostID), Size: uint32(m.Size)}
	}
	return out
}
