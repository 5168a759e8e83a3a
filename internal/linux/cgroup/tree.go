// Package cgroup gives containers their control groups, on cgroup v1, on the
// hybrid of v1 controllers and a v2 tree, and on v2 alone.
//
// A [Tree] is what the host has mounted; [Detect] finds it. A [Group] is the
// place of one container in all of its hierarchies:
//
//	PARENT/ID        nothing runs here itself
//	PARENT/ID/app    the container and whatever is started inside it; the limits stand here
//	PARENT/ID/debug  tools that we run for it, outside its limits
//	PARENT/ID/shim   the process that looks after it
//
// Most callers need [New], [Group.Create], [Group.Entrance] or [Group.Add],
// [Group.Stats], [Group.Freeze], [Group.Kill] and [Group.Destroy].
//
// Paths are absolute, from the root of each hierarchy, and are never taken
// relative to the group of the caller: that group may belong to somebody else.
//
// Limits and statistics are read and written by github.com/opencontainers/cgroups;
// making, joining and removing groups is done here, because that library joins
// in a way that waits for several milliseconds (see [Entrance]).
package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
)

// Mode says which versions of control groups a host has.
type Mode int

// The modes. In hybrid mode the controllers are on v1 hierarchies, and a v2
// tree without controllers stands beside them; freezing, killing, pressure and
// group ids work on that.
const (
	V1 Mode = iota + 1
	Hybrid
	V2
)

// String returns the mode as people call it.
func (m Mode) String() string {
	switch m {
	case V1:
		return "cgroup v1"
	case Hybrid:
		return "cgroup v1 hybrid"
	case V2:
		return "cgroup v2"
	}
	return fmt.Sprintf("cgroup mode %d", int(m))
}

// hierarchy is one mounted v1 hierarchy.
type hierarchy struct {
	dir         string   // mount point
	controllers []string // as the kernel names them, or one "name=x"
}

// Tree is the set of hierarchies of a host. It may be used by several
// goroutines at once.
type Tree struct {
	mode Mode
	v1   []hierarchy
	v2   string // mount point of the v2 tree, or empty

	mu       sync.Mutex
	prepared map[string]bool // groups whose children can be made without more ado
	pids     map[string]pidsBound
}

// Mode returns what the host has.
func (t *Tree) Mode() Mode { return t.mode }

// ErrNoCgroups says that no hierarchy is mounted.
var ErrNoCgroups = errors.New("no cgroup hierarchy is mounted")

// Detect finds the hierarchies that are mounted in this mount namespace.
func Detect() (*Tree, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("look for cgroup mounts: %w", err)
	}
	t := &Tree{prepared: make(map[string]bool), pids: make(map[string]pidsBound)}
	for _, m := range mounts {
		t.add(m)
	}
	switch {
	case len(t.v1) > 0 && t.v2 != "":
		t.mode = Hybrid
	case len(t.v1) > 0:
		t.mode = V1
	case t.v2 != "":
		t.mode = V2
	default:
		return nil, ErrNoCgroups
	}
	return t, nil
}

// add takes up one mount, unless its hierarchy is already known.
func (t *Tree) add(m *mountinfo.Info) {
	if m.FSType == "cgroup2" {
		if t.v2 == "" {
			t.v2 = m.Mountpoint
		}
		return
	}
	controllers := v1Controllers(m.VFSOptions)
	known := slices.ContainsFunc(t.v1, func(h hierarchy) bool { return slices.Equal(h.controllers, controllers) })
	if len(controllers) > 0 && !known {
		t.v1 = append(t.v1, hierarchy{dir: m.Mountpoint, controllers: controllers})
	}
}

// v1Controllers picks the controllers, or the name of a hierarchy without any,
// from a superblock's options.
func v1Controllers(options string) []string {
	flags := []string{"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "none", "favordynmods"}
	var list []string
	for option := range strings.SplitSeq(options, ",") {
		key, _, valued := strings.Cut(option, "=")
		if slices.Contains(flags, option) || valued && key != "name" {
			continue
		}
		list = append(list, option)
	}
	return list
}

// controller returns the mount point of the v1 hierarchy that has the named
// controller.
func (t *Tree) controller(name string) (dir string, ok bool) {
	for _, h := range t.v1 {
		if slices.Contains(h.controllers, name) {
			return h.dir, true
		}
	}
	return "", false
}

// roots returns the mount points of all hierarchies, v2 last.
func (t *Tree) roots() []string {
	list := make([]string, 0, len(t.v1)+1)
	for _, h := range t.v1 {
		list = append(list, h.dir)
	}
	if t.v2 != "" {
		list = append(list, t.v2)
	}
	return list
}

// detected is the tree of this process's mount namespace. What is mounted does
// not change while a daemon runs; that is what the package relies on elsewhere
// too.
var detected = sync.OnceValues(Detect)

// Current returns the tree that [Detect] found when it was first asked for.
func Current() (*Tree, error) { return detected() }

// clean checks a group's path and brings it into its shortest form.
func clean(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("cgroup path %q is not absolute", path)
	}
	short := filepath.Clean(path)
	if short == "/" {
		return "", errors.New("the root cgroup cannot be a container's")
	}
	return short, nil
}
