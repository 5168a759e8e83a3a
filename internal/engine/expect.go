package engine

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
)

// expecter is a runtime that can begin a container's start before it is asked for, see [runtime.Runtime.Expect].
type expecter interface {
	Expect(b Bundle)
	Forget(id string)
}

// How many starts are expected at once, and for how long. Both are less than what the runtime would bear: it takes back
// what it has begun by itself and without the container's turn, so that a start that came in that moment would meet with
// what is being taken away. As it is, all that is begun for a container and taken back happens in the container's turn.
const (
	expectMost = 4
	expectTime = 3 * time.Second
)

// expectStart lets the runtime use the time between creation and start. Not for containers whose start looks at the
// host: there it has to be the moment of the start that counts. Nor for more than a few: who creates a thousand is not
// about to start them.
func (e *Engine) expectStart(c *ctr) {
	x, ok := e.deps.Runtime.(expecter)
	if !ok || !startsAsCreated(c.view()) {
		return
	}
	select {
	case e.expected <- struct{}{}:
	default:
		return
	}
	e.goWork(func() {
		defer func() { <-e.expected }()
		if !e.beginStart(c, x) || c.startedWithin(e.life, expectTime) || e.life.Err() != nil {
			return
		}
		release, err := c.turn.take(e.life, "preparation")
		if err != nil {
			return // the runtime lets go of everything when the daemon ends
		}
		defer release()
		x.Forget(c.id)
	})
}

// startsAsCreated tells whether a start needs nothing of the host or of others that may change before it.
func startsAsCreated(v *view) bool {
	return v.ResolvedNet == "" && v.ResolvedIPC == "" && v.ResolvedPID == "" && v.IDs.Size > 0 &&
		!slices.ContainsFunc(v.Mounts, func(m state.Mount) bool { return m.Type == mount.TypeBind })
}

// beginStart tells whether a start was begun.
func (e *Engine) beginStart(c *ctr, x expecter) bool {
	release, err := c.turn.take(e.life, "preparation")
	if err != nil {
		return false
	}
	defer release()
	if !c.view().neverRan() {
		return false
	}
	b, err := e.bundle(context.WithoutCancel(e.life), c.view())
	if err != nil {
		return false // the start will tell
	}
	x.Expect(b)
	return true
}

// neverRan tells whether a first start may still come.
func (v *view) neverRan() bool {
	return !v.removing && v.status() == container.StateCreated && v.task == nil
}

// startedWithin waits until the container has been started or removed; false: neither came in time, or ctx ended.
func (c *ctr) startedWithin(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for v := c.view(); v.task == nil && v.exits == 0; v = c.view() {
		select {
		case <-v.next:
		case <-c.gone:
			return true
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// forgetStart takes back what expectStart has begun. The caller has the container's turn.
func (e *Engine) forgetStart(id string) {
	if x, ok := e.deps.Runtime.(expecter); ok {
		x.Forget(id)
	}
}

// execExpecter is a task whose next exec can be begun before it is asked for, see [runtime.Container.ExpectExec].
type execExpecter interface {
	ExpectExec(ctx context.Context) error
}

// expectExec lets the runtime use the time between creation and start of an exec.
func (e *Engine) expectExec(v *view) {
	x, ok := v.task.(execExpecter)
	if !ok {
		return
	}
	e.goWork(func() {
		if err := x.ExpectExec(e.life); err != nil {
			e.log.Debug("exec is not begun early", "container", v.ID, "err", err)
		}
	})
}
