package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
)

// adoptAll takes up the containers of an earlier daemon: those that run go on, the ends of others are noted, and what
// belongs to no container is removed. A container that cannot be taken up is an error that is logged and no obstacle to
// the others.
func (e *Engine) adoptAll(ctx context.Context) error {
	records, err := e.deps.State.Containers()
	if err != nil {
		return err
	}
	live := map[string]bool{}
	var again []*ctr
	for _, rec := range records {
		c := newCtr(e.deps.State, rec)
		if err := e.registry.adopt(c); err != nil {
			return err
		}
		e.ids.share(rec.IDs)
	}
	for _, c := range e.registry.all() {
		task, err := e.deps.Runtime.Load(ctx, c.id, e.stateDir(c.id), e.logDir(c.id))
		switch {
		case err == nil:
			e.takeUp(c, task)
			live[c.id] = true
		case errdefs.IsNotFound(err):
			e.noteExit(c)
			if e.restartsAtBoot(c.view()) {
				again = append(again, c)
			}
		default:
			e.log.Error("container was not adopted", "container", c.id, "err", err)
			live[c.id] = true // its address must not go to another one
			e.goWork(func() { e.adoptLater(c) })
		}
	}
	e.removeLeftovers(ctx)
	if err := e.deps.Network.Reconcile(ctx, live); err != nil {
		return err
	}
	for _, c := range again {
		e.goWork(func() { e.startAgain(c) })
	}
	return nil
}

// adoptRetry is how often a shim that does not answer is asked again.
const adoptRetry = time.Second

// adoptLater tries to take up a container, whose shim may have been stopped by somebody, until that works or the
// container has been ended without it, see discard.
func (e *Engine) adoptLater(c *ctr) {
	for {
		select {
		case <-e.life.Done():
			return
		case <-c.gone:
			return
		case <-time.After(adoptRetry):
		}
		if e.adoptNow(c) {
			return
		}
	}
}

// adoptNow tells whether nothing remains to be done.
func (e *Engine) adoptNow(c *ctr) bool {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	if v := c.view(); v.task != nil || !v.live() {
		return true
	}
	task, err := e.deps.Runtime.Load(e.life, c.id, e.stateDir(c.id), e.logDir(c.id))
	switch {
	case err == nil:
		e.takeUp(c, task)
	case errdefs.IsNotFound(err):
		e.noteExit(c)
		if e.restartsAtBoot(c.view()) {
			e.goWork(func() { e.startAgain(c) })
		}
	default:
		return false
	}
	return true
}

// discard ends a container that counts as running but could not be adopted, and notes its end.
func (e *Engine) discard(ctx context.Context, c *ctr) error {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	v := c.view()
	if v.task != nil || !v.live() {
		return nil
	}
	if err := e.deps.Runtime.Discard(ctx, c.id); err != nil {
		return err
	}
	if isBridged(v) && v.ResolvedNet == "" {
		if err := e.deps.Network.Detach(ctx, c.id); err != nil {
			e.log.Error("container was not taken off its network", "container", c.id, "err", err)
		}
	}
	e.noteExit(c)
	return nil
}

// takeUp goes on with a container whose shim still runs, or has only just ended.
func (e *Engine) takeUp(c *ctr, task Task) {
	settled := make(chan struct{})
	status, known := container.StateRunning, false
	if frozen, err := task.Frozen(); err == nil && frozen {
		status = container.StatePaused
	}
	err := c.updateSaved(func(v *view) {
		// Whatever was saved last, this is what is true. The daemon may have ended before it could save the start: then
		// an OOM kill that is noted was in an earlier run.
		known = v.live() && v.Life.OOMKilled
		v.Life.Status = status
		v.task, v.settled = task, settled
		v.endpoints = e.endpointsOf(v)
		if at := task.StartedAt().UTC(); !at.IsZero() {
			if last, ok := v.Life.Last(); !ok || !last.StartedAt.Equal(at) {
				v.Life.Begin(state.RunUnknown, nil, at)
			}
			v.Life.StartedAt, v.Life.FinishedAt = at, time.Time{}
		}
		v.Life.ExitCode, v.Life.Error, v.Life.OOMKilled = 0, "", known
	})
	e.saved(c, err)
	if known {
		select {
		case <-task.OOM(): // told already
		default:
		}
	}
	e.log.Info("container adopted", "container", c.id, "pid", task.Pid(), "status", string(status))
	e.startSampling(c.view(), task)
	e.startProbes(c)
	e.goWork(func() { e.watch(c, task, settled) })
}

// endpointsOf are the addresses that the network remembers for a container.
func (e *Engine) endpointsOf(v *view) map[string]*mobynet.EndpointSettings {
	if v.ResolvedNet != "" {
		return nil
	}
	mode := string(v.HostConfig.NetworkMode)
	es := v.Networks[mode].Copy()
	if es == nil {
		es = &mobynet.EndpointSettings{}
	}
	if ep, ok := e.deps.Network.Endpoint(v.ID); ok {
		es = endpointSettings(es, ep)
	}
	return map[string]*mobynet.EndpointSettings{mode: es}
}

// noteExit brings a container without a shim to rest. If it ran when the earlier daemon ended, its end is noted from the
// record that the shim left.
func (e *Engine) noteExit(c *ctr) {
	v := c.view()
	switch v.status() {
	case container.StateRemoving, container.StateDead:
		e.finishRemoval(c)
		return
	case container.StateRestarting:
		// Its end is known already; the policy is looked at afterwards, as for all others.
		e.saved(c, c.move(container.StateExited, nil))
		return
	case container.StateCreated, container.StateRunning, container.StatePaused, container.StateExited: // what became of it is seen below
	}
	exit, err := e.deps.Runtime.ReadExit(e.stateDir(c.id))
	recorded := err == nil
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, fs.ErrNotExist) {
		e.log.Error("exit record cannot be read", "container", c.id, "err", err)
	}
	if !v.live() && (!recorded || !exit.At.After(v.Life.FinishedAt)) {
		e.autoRemoveRest(c)
		return
	}
	if !recorded {
		exit = Exit{Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL, At: time.Now()}
	}
	// A start and an end that the earlier daemon did not get to save.
	if !v.live() {
		e.saved(c, c.updateSaved(func(v *view) {
			v.Life.Begin(state.RunUnknown, nil, time.Time{})
			v.Life.Status = container.StateRunning
		}))
	}
	settled := make(chan struct{})
	c.update(func(v *view) { v.settled = settled })
	e.exitedWithout(c, exit, settled)
}

// exitedWithout is exited for a run that another daemon started and that has nothing left to clear away.
func (e *Engine) exitedWithout(c *ctr, exit Exit, settled chan struct{}) {
	before := c.view()
	ctx := behalf(before.endedBy(exit))
	err := c.moveAnd(container.StateExited, func(v *view) { noteEnd(v, exit) }, func() { e.emitEnd(ctx, before, exit) })
	e.saved(c, err)
	close(settled)
	e.autoRemoveRest(c)
}

// autoRemoveRest removes a container that has ended and was meant to be removed then.
func (e *Engine) autoRemoveRest(c *ctr) {
	v := c.view()
	if v.HostConfig.AutoRemove && v.status() == container.StateExited {
		e.removeLater(c, v.startedBy().Follows())
	}
}

// finishRemoval goes on with a removal that the earlier daemon did not finish.
func (e *Engine) finishRemoval(c *ctr) {
	if v := c.view(); v.status() == container.StateRemoving {
		e.saved(c, c.move(container.StateDead, nil))
	}
	e.removeLater(c, nil)
}

// restartsAtBoot tells whether a container that does not run is started with the daemon: by policy always even if
// somebody stopped it, by the others only if nobody did.
func (e *Engine) restartsAtBoot(v *view) bool {
	if v.status() != container.StateExited || v.removing {
		return false
	}
	p := v.HostConfig.RestartPolicy
	switch p.Name {
	case container.RestartPolicyAlways:
		return true
	case container.RestartPolicyUnlessStopped:
		return !v.Life.Stopped
	case container.RestartPolicyOnFailure:
		return !v.Life.Stopped && v.Life.ExitCode != 0 && (p.MaximumRetryCount == 0 || v.Life.RestartCount < p.MaximumRetryCount)
	}
	return false
}

func (e *Engine) startAgain(c *ctr) {
	release, err := c.turn.take(e.life, "restart policy")
	if err != nil {
		return
	}
	defer release()
	if v := c.view(); v.status() != container.StateExited || v.removing {
		return
	}
	e.saved(c, c.updateSaved(func(v *view) { v.Life.RestartCount++; v.noRestart, v.Life.Stopped = false, false }))
	ctx := event.WithOrigin(e.life, c.view().startedBy().Follows())
	if err := e.start(ctx, c, state.RunDaemon); err != nil {
		e.log.Error("container was not started with the daemon", "container", c.id, "err", err)
	}
}

var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// removeLeftovers removes what no record knows: of creations that were interrupted, and of removals.
func (e *Engine) removeLeftovers(ctx context.Context) {
	known := func(id string) bool { c, err := e.registry.find(id); return err == nil && c.id == id }
	for _, dir := range []string{e.config.ExecRoot, filepath.Join(e.config.DataRoot, containersDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.log.Error("leftovers were not looked for", "dir", dir, "err", err)
		}
		for _, entry := range entries {
			if id := entry.Name(); wholeID.MatchString(id) && !known(id) {
				e.removeLeftover(ctx, id)
			}
		}
	}
	roots, err := e.deps.Images.RootFSList(ctx)
	if err != nil {
		e.log.Error("leftovers were not looked for", "what", "root filesystems", "err", err)
	}
	for _, id := range roots {
		if !known(id) {
			e.removeLeftover(ctx, id)
		}
	}
}

func (e *Engine) removeLeftover(ctx context.Context, id string) {
	err := func() error {
		task, err := e.deps.Runtime.Load(ctx, id, e.stateDir(id), e.logDir(id))
		if err == nil {
			err = errors.Join(task.Kill(ctx), task.Delete(ctx))
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end what runs: %w", err)
		}
		if err := e.deps.Images.RemoveRootFS(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return removeDir(e.dir(id))
	}()
	if err != nil {
		e.log.Error("leftover of a container was not removed", "container", id, "err", err)
		return
	}
	e.log.Info("leftover of a container removed", "container", id)
}

// noteEnd records how a run ended.
func noteEnd(v *view, exit Exit) {
	v.Life.ExitCode, v.Life.Signal = exit.Code, int(exit.Signal)
	v.Life.OOMKilled = v.Life.OOMKilled || exit.OOMKilled // the start has reset it
	v.Life.FinishedAt = exit.At.UTC()
	v.Life.Amend(func(r *state.Run) {
		r.FinishedAt, r.ExitCode, r.Signal = v.Life.FinishedAt, exit.Code, int(exit.Signal)
		r.OOMKilled, r.Unobserved = v.Life.OOMKilled, !exit.Observed
	})
	v.task, v.endpoints, v.execs = nil, nil, nil
	v.exits++
	v.lastExit = exit.Code
	if v.health != nil {
		v.health = endedHealth(v.health)
	}
}
