package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/event"
)

const removeTimeout = time.Minute

// errRemoved breaks off the start of a container that is removed by force.
var errRemoved = errors.New("the container is being removed")

// ContainerRemove removes a container and all it owns. Of two removals at the same time the second is refused. Once it
// has begun, the client cannot interrupt it.
func (e *Engine) ContainerRemove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return invalid("legacy links are not supported: there is no link to remove")
	}
	c, done, err := e.operate(ctx, "remove", ref)
	if err != nil {
		return err
	}
	defer done()
	if !c.claimRemoval() {
		return conflict("removal of container %s is already in progress", ref)
	}
	if err := e.remove(ctx, c, o); err != nil {
		c.update(func(v *view) { v.removing = false })
		return fmt.Errorf("cannot remove container %q: %w", ref, err)
	}
	return nil
}

// claimRemoval marks the container as being removed; false: somebody else has.
func (c *ctr) claimRemoval() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view().removing || c.deleted {
		return false
	}
	c.publish(func(v *view) { v.removing = true })
	return true
}

// removeLater removes a container for --rm, which by asked for.
func (e *Engine) removeLater(c *ctr, by *event.Origin) {
	if !c.claimRemoval() {
		return
	}
	e.goWork(func() {
		ctx, cancel := context.WithTimeout(behalf(by), removeTimeout)
		defer cancel()
		defer e.begin(ctx, "remove", c)()
		if err := e.remove(ctx, c, RemoveOptions{Force: true, Volumes: true}); err != nil {
			c.update(func(v *view) { v.removing = false })
			e.log.Error("container was not removed after its end", "container", c.id, "err", err)
		}
	})
}

// remove does the work; the caller has claimed it.
func (e *Engine) remove(ctx context.Context, c *ctr, o RemoveOptions) error {
	v := c.view()
	if v.live() && !o.Force {
		if v.status() == container.StatePaused {
			return conflict("container is paused and must be unpaused first")
		}
		return conflict("container is %s: stop the container before removing or force remove", v.status())
	}
	if o.Force {
		c.cancelStart(errRemoved)
	}
	release, err := c.turn.take(ctx, "remove")
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	c.cancelRestart()
	if err := e.endForRemoval(ctx, c); err != nil {
		return err
	}
	select {
	case <-c.view().settled:
	case <-ctx.Done():
		return internal("what its last run left is not cleared away: %v", context.Cause(ctx))
	}
	return e.destroy(ctx, c, o)
}

// endForRemoval kills a container that runs.
func (e *Engine) endForRemoval(ctx context.Context, c *ctr) error {
	e.stopRestarting(c)
	first := c.view()
	if !first.live() {
		return e.discard(ctx, c)
	}
	e.saved(c, c.updateSaved(func(v *view) { v.Life.Asked = asks(ctx, askRemove, syscall.SIGKILL) }))
	err := e.killHard(ctx, c, first)
	if err != nil && errdefs.IsConflict(err) {
		return nil // it ended by itself meanwhile
	}
	return err
}

// destroy takes away what the container has on disk, and the container.
func (e *Engine) destroy(ctx context.Context, c *ctr, o RemoveOptions) error {
	if s := c.view().status(); s != container.StateRemoving {
		if err := c.move(container.StateRemoving, nil); err != nil {
			return err
		}
	}
	v := c.view()
	e.forgetStart(c.id)
	e.finishShipping(c.id)
	err := e.deps.Images.RemoveRootFS(ctx, c.id)
	if errdefs.IsNotFound(err) {
		err = nil
	}
	if err == nil {
		err = removeDir(e.dir(c.id))
	}
	if err != nil {
		e.saved(c, c.move(container.StateDead, func(v *view) { v.Life.Error = err.Error() }))
		return err
	}
	if o.Volumes {
		e.removeVolumes(ctx, v)
	}
	c.mu.Lock()
	c.deleted = true
	err = e.deps.State.DeleteLater(c.id)
	c.mu.Unlock()
	e.saved(c, err)
	e.execs.forget(c.id)
	e.registry.remove(c)
	e.ids.release(v.IDs)
	e.emit(ctx, v, events.ActionDestroy, nil)
	c.failPending(c.takePending())
	close(c.gone)
	return nil
}

// removeDir removes a directory in which a log compressor may still be at work.
func removeDir(dir string) error {
	var err error
	for range 3 {
		if err = os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	return err
}

// removeVolumes removes the anonymous volumes of a container that is gone, unless another one uses them too.
func (e *Engine) removeVolumes(ctx context.Context, v *view) {
	for _, m := range v.Mounts {
		if m.Type != mount.TypeVolume || !m.Anonymous {
			continue
		}
		err := e.removeVolume(ctx, m.Name, v.ID)
		if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			e.log.Error("volume was not removed", "volume", m.Name, "container", v.ID, "err", err)
		}
	}
}

// volumeUsers are the containers, but one, that have a volume.
func (e *Engine) volumeUsers(name, but string) []string {
	var users []string
	for _, c := range e.registry.all() {
		for _, m := range c.view().Mounts {
			if c.id != but && m.Type == mount.TypeVolume && m.Name == name {
				users = append(users, c.id)
				break
			}
		}
	}
	return users
}
