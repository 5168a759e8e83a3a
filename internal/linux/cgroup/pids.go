package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// PidsBounds keep the processes of containers from being all that the machine can have. Where none is left, a Go
// program that needs a thread is ended by its runtime, and so would be the daemon.
type PidsBounds struct {
	// Room is how many processes and threads the machine can have, and By is what says so: kernel.pid_max,
	// kernel.threads-max, or pids.max of the group that looks like the root from here.
	Room uint64
	By   string
	// All is how many there can be in the bounded group, Each how many one container should have that was given no limit, and
	// Apart how many if it is in another group.
	All, Each, Apart uint64
}

// reservedPids are those ids that the kernel gives nobody once it has come to pid_max (kernel/pid.c, RESERVED_PIDS).
const reservedPids = 300

// boundsOf leaves an eighth of the room to what is no container, and lets it take two to use up the rest, or eight that
// are in other groups: no limit can be set for these together.
func boundsOf(room uint64, by string) PidsBounds {
	b := PidsBounds{Room: room, By: by, All: room - room/8}
	b.Each, b.Apart = b.All/2, b.All/8
	return b
}

// Of is how many a container should have that was given no limit, by the group that its own is to be made in; 0: there are no bounds.
// group is the bounded one.
func (b PidsBounds) Of(parent, group string) uint64 {
	if parent = filepath.Clean("/" + parent); parent == group || strings.HasPrefix(parent, group+"/") {
		return b.Each
	}
	return b.Apart
}

// BoundPids sets the limit of the group at path, which is made if it is not there. A lower one that stands there is kept.
// If somebody removes the group, [Tree.Prepare] sets the limit again.
//
// A host that cannot limit processes is an [*UnavailableError].
func (t *Tree) BoundPids(path string) (PidsBounds, error) {
	path, err := clean(path)
	if err != nil {
		return PidsBounds{}, err
	}
	root, ok := t.controller("pids")
	if !ok {
		root = t.v2
	}
	if root == "" {
		return PidsBounds{}, &UnavailableError{Controller: "pids", Mode: t.mode}
	}
	b, err := pidsRoom("/proc/sys/kernel", root)
	if err != nil {
		return PidsBounds{}, fmt.Errorf("see how many processes there can be: %w", err)
	}
	if err := t.Prepare(path); err != nil {
		return PidsBounds{}, err
	}
	dir := filepath.Join(root, path)
	have, err := lowerPids(dir, b.All)
	if errors.Is(err, fs.ErrNotExist) {
		return PidsBounds{}, &UnavailableError{Controller: "pids", Mode: t.mode}
	}
	if err != nil {
		return PidsBounds{}, fmt.Errorf("limit processes of cgroup %q: %w", path, err)
	}
	t.mu.Lock()
	t.pids[path] = pidsBound{dir, b.All}
	t.mu.Unlock()
	b.All = have
	b.Each, b.Apart = min(b.Each, have), min(b.Apart, have)
	return b, nil
}

// pidsBound is a limit of a prepared group, and the directory where it stands.
type pidsBound struct {
	dir string
	max uint64
}

// pidsRoom asks the kernel's settings and a hierarchy's root, which has a limit if it is that of a cgroup namespace.
func pidsRoom(settings, root string) (PidsBounds, error) {
	ids, _, err := readNumber(settings, "pid_max")
	if err != nil {
		return PidsBounds{}, err
	}
	room, by := ids-min(reservedPids, ids), "kernel.pid_max"
	threads, _, err := readNumber(settings, "threads-max")
	if err != nil {
		return PidsBounds{}, err
	}
	if threads < room {
		room, by = threads, "kernel.threads-max"
	}
	group, limited, err := readNumber(root, "pids.max")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return PidsBounds{}, err
	}
	if limited && group < room {
		room, by = group, filepath.Join(root, "pids.max")
	}
	return boundsOf(room, by), nil
}

// lowerPids sets the limit of a group unless it has a lower one, and returns the one that it has then.
func lowerPids(dir string, limit uint64) (uint64, error) {
	have, limited, err := readNumber(dir, "pids.max")
	if err != nil {
		return 0, err
	}
	if limited && have <= limit {
		return have, nil
	}
	return limit, writeFile(filepath.Join(dir, "pids.max"), strconv.FormatUint(limit, 10))
}

// PidsLeft is how many more processes and threads there can be in every one of the group's sub-groups, by its own limit and
// those of the groups around it. limited is false if there is no limit, or that is not known.
func (g *Group) PidsLeft() (left uint64, limited bool) {
	if g.err != nil {
		return 0, false
	}
	root, v1 := g.tree.controller("pids")
	if !v1 {
		root = g.tree.v2
	}
	for _, sub := range []Sub{App, Shims} {
		dir := g.Dir(sub)
		if v1 {
			dir = g.dirV1(root, sub)
		}
		for ; dir != root && dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			limit, bounded, err := readNumber(dir, "pids.max")
			if err != nil || !bounded {
				continue
			}
			have, _, err := readNumber(dir, "pids.current")
			if err != nil {
				continue
			}
			if here := limit - min(have, limit); !limited || here < left {
				left, limited = here, true
			}
		}
	}
	return left, limited
}
