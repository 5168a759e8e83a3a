package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// expecter is a runtime that can begin a container's start before it is asked for, see [runtime.Runtime.Expect].
type expecter interface {
	Expect(b Bundle)
	Forget(id string)
}

// expectStart lets the runtime use the time between creation and start. Not for containers whose start looks at the
// host: there it has to be the moment of the start that counts.
func (e *Engine) expectStart(c *ctr) {
	x, ok := e.deps.Runtime.(expecter)
	if !ok {
		return
	}
	v := c.view()
	if v.ResolvedNet != "" || v.ResolvedIPC != "" || v.ResolvedPID != "" || v.IDs.Size == 0 {
		return
	}
	for _, m := range v.Mounts {
		if m.Type == mount.TypeBind {
			return
		}
	}
	e.goWork(func() {
		release, err := c.turn.take(e.life, "preparation")
		if err != nil {
			return
		}
		defer release()
		v := c.view()
		if v.removing || v.status() != container.StateCreated || v.task != nil {
			return
		}
		b, err := e.bundle(context.WithoutCancel(e.life), v)
		if err != nil {
			return // the start will tell
		}
		x.Expect(b)
	})
}

// forgetStart takes back what expectStart has begun.
func (e *Engine) forgetStart(id string) {
	if x, ok := e.deps.Runtime.(expecter); ok {
		x.Forget(id)
	}
}
