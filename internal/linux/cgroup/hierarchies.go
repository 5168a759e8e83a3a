package cgroup

import (
	"path/filepath"
	"slices"
)

// Hierarchy is a v1 hierarchy as a container gets to see it.
type Hierarchy struct {
	// Name is the last part of the mount point, "cpu,cpuacct".
	Name string
	// Dir is the mount point.
	Dir string
	// Controllers are the mount options that name it: controllers, or "name=systemd".
	Controllers []string
}

// Hierarchies lists the v1 hierarchies.
func (t *Tree) Hierarchies() []Hierarchy {
	list := make([]Hierarchy, 0, len(t.v1))
	for _, h := range t.v1 {
		list = append(list, Hierarchy{Name: filepath.Base(h.dir), Dir: h.dir, Controllers: slices.Clone(h.controllers)})
	}
	return list
}

// Unified is where the v2 tree is mounted, or empty.
func (t *Tree) Unified() string { return t.v2 }
