package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// freezeTimeout bounds the wait for tasks that the kernel holds in a call that cannot be frozen.
const freezeTimeout = 10 * time.Second

// ContainerPause freezes all processes of a container.
func (e *Engine) ContainerPause(ctx context.Context, ref string) error {
	c, done, err := e.operate(ctx, "pause", ref)
	if err != nil {
		return err
	}
	defer done()
	release, err := c.turn.take(ctx, "pause")
	if err != nil {
		return err
	}
	defer release()
	v := c.view()
	switch {
	case v.status() == container.StatePaused:
		return conflict("container %s is already paused", c.id)
	case v.status() == container.StateRestarting:
		return errRestarting(c.id)
	case v.status() != container.StateRunning || v.task == nil:
		return errNoTask(v)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezeTimeout)
	defer cancel()
	if err := v.task.Freeze(bounded); err != nil {
		if terr := v.task.Thaw(bounded); terr != nil {
			e.log.Warn("half frozen container was not thawed", "container", c.id, "err", terr)
		}
		return fmt.Errorf("cannot pause container %s: %w", c.id, err)
	}
	// Nothing can be said about its health until the next probe, which comes after the thaw.
	err = c.move(container.StatePaused, func(v *view) {
		if v.health != nil {
			v.health = endedHealth(v.health)
		}
	})
	if err != nil {
		return errNotRunning(c.id) // it was killed meanwhile
	}
	e.emit(ctx, c.view(), events.ActionPause, nil)
	return nil
}

// ContainerUnpause thaws a paused container.
func (e *Engine) ContainerUnpause(ctx context.Context, ref string) error {
	c, done, err := e.operate(ctx, "unpause", ref)
	if err != nil {
		return err
	}
	defer done()
	release, err := c.turn.take(ctx, "unpause")
	if err != nil {
		return err
	}
	defer release()
	v := c.view()
	if v.status() != container.StatePaused {
		return internal("Container %s is not paused", c.id)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezeTimeout)
	defer cancel()
	if err := v.task.Thaw(bounded); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.id, err)
	}
	if err := c.resume(); err != nil {
		return internal("Container %s is not paused", c.id)
	}
	e.emit(ctx, c.view(), events.ActionUnPause, nil)
	return nil
}
