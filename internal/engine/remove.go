package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/retry"
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
		e.unclaim(c, err)
		return fmt.Errorf("cannot remove container %q: %w", ref, err)
	}
	select {
	case <-c.view().settled: // nothing of it is left when its removal is answered
	case <-ctx.Done():
	}
	// What a client was told to be gone must not come back with the next daemon.
	select {
	case <-c.erased:
	default:
		e.deaths.rush()
		select {
		case <-c.erased:
		case <-ctx.Done():
		}
	}
	e.saved(c, e.deps.State.Flush(ctx))
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

// unclaim ends the claim of a removal that has failed, unless it is to be done later: then another may have claimed it.
func (e *Engine) unclaim(c *ctr, err error) {
	if _, later := errors.AsType[*stuckError](err); !later {
		c.update(func(v *view) { v.removing = false })
	}
}

// forRm is how --rm removes.
var forRm = RemoveOptions{Force: true, Volumes: true}

// removeLater removes a container that has ended, which by asked for.
func (e *Engine) removeLater(c *ctr, by *event.Origin, o RemoveOptions) {
	if !c.claimRemoval() {
		return
	}
	e.goWork(func() {
		ctx, cancel := context.WithTimeout(behalf(by), removeTimeout)
		defer cancel()
		defer e.begin(ctx, "remove", c)()
		if err := e.remove(ctx, c, o); err != nil {
			e.unclaim(c, err)
			e.log.Error("container was not removed after its end", "container", c.id, "err", err)
		}
	})
}

// remove does the work; the caller has claimed it.
func (e *Engine) remove(ctx context.Context, c *ctr, o RemoveOptions) error {
	if err := o.allow(c.view()); err != nil {
		return err
	}
	if o.Force {
		c.cancelStart(errRemoved)
	}
	release, err := c.turn.take(ctx, "remove")
	if err != nil {
		return err
	}
	defer release()
	if err := o.allow(c.view()); err != nil {
		return err // it was being started
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	c.cancelRestart()
	if err := e.endOrDefer(ctx, c, o); err != nil {
		return err
	}
	if v := c.view(); !v.endsWhole() {
		select {
		case <-v.settled:
		case <-ctx.Done():
			return internal("what its last run left is not cleared away: %v", context.Cause(ctx))
		}
	}
	return e.destroy(ctx, c, o)
}

// allow refuses what only force may do.
func (o RemoveOptions) allow(v *view) error {
	switch {
	case o.Force || !v.live():
		return nil
	case v.status() == container.StatePaused:
		return conflict("container is paused and must be unpaused first")
	}
	return conflict("container is %s: stop the container before removing or force remove", v.status())
}

// endsWhole tells whether no process of the container is left once the first one has ended: the kernel ends all others
// of a process namespace before that one's end is seen. The files of such a container can go at once; its cgroup and
// what was beside it follow.
func (v *view) endsWhole() bool { return v.ResolvedPID == "" && !v.HostConfig.PidMode.IsHost() }

// endOrDefer ends a container, or fails with a [stuckError] after which it is removed when it ends.
func (e *Engine) endOrDefer(ctx context.Context, c *ctr, o RemoveOptions) error {
	for {
		err := e.endForRemoval(ctx, c)
		if _, stuck := errors.AsType[*stuckError](err); !stuck {
			return err
		}
		if e.removeAtEnd(ctx, c, o) {
			e.saved(c, e.deps.State.Flush(ctx)) // a later daemon must know of it
			return err
		}
	}
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
	if err != nil {
		return fmt.Errorf("could not kill: %w", err)
	}
	return nil
}

// destroy takes away what the container has on disk, and the container.
func (e *Engine) destroy(ctx context.Context, c *ctr, o RemoveOptions) error {
	if s := c.view().status(); s != container.StateRemoving {
		// A later daemon may have to go on with it.
		err := c.move(container.StateRemoving, func(v *view) {
			v.Life.Removal = &state.Removal{Volumes: o.Volumes, At: time.Now().UTC(), By: event.OriginOf(ctx)}
		})
		if err != nil {
			return err
		}
	}
	v := c.view()
	e.forgetStart(c.id)
	e.finishShipping(c.id)
	var err error
	if e.config.KeepFailed && e.remains.keep(v) {
		e.goWork(func() { e.trimRemains(e.life) })
	} else if err = e.deps.Images.RemoveRootFS(ctx, c.id); errdefs.IsNotFound(err) {
		err = nil
	}
	// What the next daemon would make up from for a death that is not written yet goes last: the exit code that the
	// shim has written beside the container's files, and the container's record, which on disk may be of before the start.
	late := e.deaths.waiting(c.id)
	if err == nil && !late {
		err = e.trash(c.id)
	}
	if err != nil {
		e.saved(c, c.move(container.StateDead, func(v *view) { v.Life.Error = err.Error() }))
		return err
	}
	if o.Volumes {
		e.removeVolumes(ctx, v)
	}
	failpoint.Pass("engine.emptied")
	c.mu.Lock()
	c.deleted = true
	c.mu.Unlock()
	e.deaths.after(c.id, func() {
		defer close(c.erased)
		if late {
			if err := e.trash(c.id); err != nil {
				e.log.Warn("the files of a removed container stay, that is tried again", "container", c.id, "err", err)
				e.goWork(func() { e.trashAgain(c.id) })
			}
		}
		e.saved(c, e.deps.State.DeleteLater(c.id))
	})
	e.execs.forget(c.id)
	e.registry.remove(c)
	e.releaseIDs(v)
	e.emit(ctx, v, events.ActionDestroy, nil)
	c.failPending(c.takePending())
	close(c.gone)
	return nil
}

// releaseIDs gives a container's ids back once no process has them any more.
func (e *Engine) releaseIDs(v *view) {
	select {
	case <-v.settled:
		e.ids.release(v.IDs)
	default:
		e.goWork(func() {
			select {
			case <-v.settled:
				e.ids.release(v.IDs)
			case <-e.life.Done(): // the next daemon counts anew
			}
		})
	}
}

// trash puts a container's directory where nobody looks for containers, and removes it in the background: to remove a
// dozen files from a busy disk takes longer than all else that an end costs.
func (e *Engine) trash(id string) error {
	gone := filepath.Join(e.trashDir(), id)
	if err := failpoint.Hit("engine.trash"); err != nil {
		return err
	}
	if err := os.Rename(e.dir(id), gone); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	e.goWork(func() { e.emptyTrash(gone) })
	return nil
}

// trashRetry is when files that a full disk does not let go of are tried again.
const trashRetry = time.Second

// trashAgain is trash for a container that nobody knows any more, until it succeeds. The next daemon takes such files for
// what they are.
func (e *Engine) trashAgain(id string) {
	tick := time.NewTicker(trashRetry)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-e.life.Done():
			return
		}
		if e.trash(id) == nil {
			return
		}
	}
}

// emptyTrash removes what was put there.
func (e *Engine) emptyTrash(dir string) {
	failpoint.Pass("engine.trashed")
	e.removeFiles(dir)
}

// removeFiles removes a directory of what is gone, now or, where the disk does not let go of it, once it does.
func (e *Engine) removeFiles(dir string) {
	err := removeDir(dir)
	if err == nil {
		return
	}
	e.log.Warn("files of what was removed stay for now", "dir", dir, "err", err)
	// Without success the next daemon finds them.
	e.goWork(func() { retry.Until(e.life.Done(), func() error { return removeDir(dir) }) })
}

// emptyOldTrash removes what an earlier daemon did not come to.
func (e *Engine) emptyOldTrash() {
	entries, err := os.ReadDir(e.trashDir())
	if err != nil {
		e.log.Warn("trash cannot be read", "err", err)
	}
	for _, entry := range entries {
		if e.life.Err() != nil {
			return
		}
		e.emptyTrash(filepath.Join(e.trashDir(), entry.Name()))
	}
}

func (e *Engine) trashDir() string { return filepath.Join(e.config.DataRoot, "trash") }

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
		if err := e.removeAnonymous(ctx, m.Name, v.ID); err != nil {
			e.log.Error("volume was not removed, that is tried again", "volume", m.Name, "container", v.ID, "err", err)
			ctx := context.WithoutCancel(ctx)
			e.goWork(func() {
				retry.Until(e.life.Done(), func() error { return e.removeAnonymous(ctx, m.Name, v.ID) })
			})
		}
	}
}

// removeAnonymous removes a volume, unless somebody else has come to use it.
func (e *Engine) removeAnonymous(ctx context.Context, name, user string) error {
	err := e.removeVolume(ctx, name, user)
	if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
		return nil
	}
	return err
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
