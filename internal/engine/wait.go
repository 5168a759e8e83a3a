package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
)

// ContainerWait returns a channel that gets exactly one response when the condition is met, and is closed then. It is
// closed without one when ctx or the daemon ends first. An empty condition is not-running. The condition is looked at
// from before ContainerWait returns: what happens afterwards is not missed.
func (e *Engine) ContainerWait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, error) {
	switch condition {
	case "":
		condition = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, invalid("invalid condition: %q", condition)
	}
	c, err := e.registry.find(ref)
	if err != nil {
		return nil, err
	}
	first := c.view()
	result := make(chan container.WaitResponse, 1)
	e.goWork(func() {
		defer close(result)
		if e.awaitAdoption(ctx, c) != nil {
			return
		}
		if v := e.await(ctx, c, first, condition); v != nil {
			result <- waitResponse(v, condition)
		}
	})
	return result, nil
}

func waitResponse(v *view, condition container.WaitCondition) container.WaitResponse {
	r := container.WaitResponse{StatusCode: int64(v.lastExit)}
	if condition == container.WaitConditionRemoved && v.status() == container.StateDead {
		r.Error = &container.WaitExitError{Message: v.Life.Error}
	}
	return r
}

// await returns the view in which the condition is met, or nil when ctx or the engine ended first. The end of the
// container's existence meets every condition. The events that belong to the condition have been published.
func (e *Engine) await(ctx context.Context, c *ctr, first *view, condition container.WaitCondition) *view {
	v := e.look(ctx, c, first, condition)
	c.mu.Lock() // moveAnd announces under it
	defer c.mu.Unlock()
	return v
}

func (e *Engine) look(ctx context.Context, c *ctr, first *view, condition container.WaitCondition) *view {
	for v := c.view(); ; v = c.view() {
		exited := v.exits > first.exits
		switch condition {
		case container.WaitConditionNotRunning:
			if exited || !v.live() {
				return v
			}
		case container.WaitConditionNextExit:
			if exited {
				return v
			}
		case container.WaitConditionRemoved:
			if v.status() == container.StateDead && !v.removing {
				return v
			}
		}
		select {
		case <-v.next:
		case <-c.gone:
			return c.view()
		case <-ctx.Done():
			return nil
		case <-e.life.Done():
			return nil
		}
	}
}
