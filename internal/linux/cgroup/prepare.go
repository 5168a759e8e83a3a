package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Prepare makes the group at an absolute path in every hierarchy, ready to have
// children: on v1 with processors and memory nodes that children inherit, on v2
// with every controller enabled for them. Limits that stand there are kept. A path
// is prepared once in the life of a Tree.
func (t *Tree) Prepare(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("cgroup path %q is not absolute", path)
	}
	path = filepath.Clean(path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prepared[path] {
		return nil
	}
	for _, dir := range ancestry(path) {
		if err := t.prepare(dir); err != nil {
			return fmt.Errorf("prepare cgroup %q: %w", dir, err)
		}
	}
	t.prepared[path] = true
	return nil
}

// forget makes the next Prepare look again.
func (t *Tree) forget(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.prepared, path)
}

// Prune removes a group that was prepared, and the shims' group in it, where it
// is empty. One that is in use is left alone.
func (t *Tree) Prune(path string) error {
	path, err := clean(path)
	if err != nil {
		return err
	}
	t.forget(path)
	for _, root := range t.roots() {
		for _, dir := range []string{filepath.Join(root, path, string(Shims)), filepath.Join(root, path)} {
			err := unix.Rmdir(dir)
			if err != nil && !slices.Contains([]error{unix.ENOENT, unix.EBUSY, unix.ENOTEMPTY}, err) {
				return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
			}
		}
	}
	return nil
}

// ancestry returns a path and the paths above it, from the root down.
func ancestry(path string) []string {
	if path == "/" {
		return []string{"/"}
	}
	return append(ancestry(filepath.Dir(path)), path)
}

func (t *Tree) prepare(path string) error {
	for _, root := range t.roots() {
		if path == "/" {
			break
		}
		if err := makeEmpty(filepath.Join(root, path), keepIfExists); err != nil {
			return err
		}
	}
	if dir, ok := t.controller("cpuset"); ok && path != "/" {
		if err := inheritCpuset(filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	if t.mode == V2 {
		if err := enableControllers(filepath.Join(t.v2, path)); err != nil {
			return err
		}
	}
	if bound, ok := t.pids[path]; ok {
		_, err := lowerPids(bound.dir, bound.max)
		return err
	}
	return nil
}

// inheritCpuset gives a v1 cpuset group the processors and memory nodes of the
// group above it, if it has none, and lets its children inherit them when they
// are made (Documentation/admin-guide/cgroup-v1/cgroups.rst, clone_children).
// No process can enter a cpuset that is empty.
func inheritCpuset(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if len(strings.TrimSpace(string(own))) > 0 {
			continue
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, name), string(above)); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, "cgroup.clone_children"), "1")
}

// enableControllers enables every controller of a v2 group for its children. A
// controller that cannot be enabled stays off; it is an error later, and only
// for a container that needs it.
func enableControllers(dir string) error {
	missing, err := disabled(dir)
	if err != nil || len(missing) == 0 {
		return err
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	if err := writeFile(file, "+"+strings.Join(missing, " +")); err == nil {
		return nil
	} else if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// One refusal refuses them all.
	for _, name := range missing {
		if err := writeFile(file, "+"+name); errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// disabled returns the controllers that a v2 group has but its children do not.
func disabled(dir string) ([]string, error) {
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(available))) == 0 {
		return nil, nil
	}
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return nil, err
	}
	on := strings.Fields(string(enabled))
	return slices.DeleteFunc(strings.Fields(string(available)), func(name string) bool {
		return slices.Contains(on, name)
	}), nil
}
