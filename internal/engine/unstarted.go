package engine

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// unstartedGrace divides containers with --rm that were created and not started: `run --rm` starts what it has created
// within this time, unless something dies in between; who created it by hand takes longer, or comes back for it.
const unstartedGrace = 10 * time.Second

// keepUnstarted has a container with --rm stay that nobody starts for a while: whoever made it means to start it by hand.
// It is not for `run --rm`, whose next daemon removes what it left, see removeUnstarted.
func (e *Engine) keepUnstarted(c *ctr) {
	if !c.view().HostConfig.AutoRemove {
		return
	}
	time.AfterFunc(e.unstartedGrace(), func() {
		if v := c.view(); e.life.Err() == nil && v.status() == container.StateCreated && !v.removing {
			e.saved(c, c.updateSaved(func(v *view) { v.Life.Kept = true }))
		}
	})
}

// removeUnstarted removes a container with --rm whose daemon died between its creation and its start: the client that
// wanted to start it has lost its connection. Should it try again, it has as much time for that as it had before.
func (e *Engine) removeUnstarted(c *ctr) {
	if v := c.view(); !v.HostConfig.AutoRemove || v.Life.Kept || v.status() != container.StateCreated {
		return
	}
	e.goWork(func() {
		timer := time.NewTimer(e.unstartedGrace())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.gone:
			return
		case <-e.life.Done():
			return
		}
		release, err := c.turn.take(e.life, "removal of what was never started")
		if err != nil {
			return
		}
		unstarted := c.view().status() == container.StateCreated
		release()
		if unstarted {
			e.log.Info("container is removed that --rm was asked for and nobody has started", "container", c.id)
			e.removeLater(c, nil, forRm)
		}
	})
}

func (e *Engine) unstartedGrace() time.Duration {
	if e.config.UnstartedGrace > 0 {
		return e.config.UnstartedGrace
	}
	return unstartedGrace
}
