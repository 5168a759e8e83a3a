package oci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// Delete removes a container that has stopped: its cgroup with whatever is left in it,
// and its record. With force it is killed first, and one that does not exist is no
// error.
func (r *Runtime) Delete(id string, force bool) error {
	c, unlock, err := r.open(id)
	if err != nil {
		if force && errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	defer unlock()
	if status := c.status(); status != specs.StateStopped && !force {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
	}
	s, err := c.config()
	if err != nil {
		if !force {
			return err
		}
		s = &specs.Spec{}
	}
	return c.destroy(s.Hooks)
}

// destroy takes back what create has made, kills what is left, runs the poststop hooks
// of h, if not nil, and forgets the container.
func (c *container) destroy(h *specs.Hooks) error {
	ctx, cancel := patience()
	defer cancel()
	g, err := c.group()
	if err != nil {
		return err
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	if err := g.Destroy(ctx); err != nil {
		return err
	}
	tree, err := cgroup.Current()
	if err != nil {
		return err
	}
	for dir := path.Dir(c.Cgroup); dir == Parent || strings.HasPrefix(dir, Parent+"/"); dir = path.Dir(dir) {
		if err := tree.Prune(dir); err != nil { // one with others in it stays
			return err
		}
	}
	c.poststopHooks(h)
	return os.RemoveAll(c.rt.dir(c.ID))
}
