package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/death"
)

const (
	clearTimeout    = 30 * time.Second       // for taking away what a run has left
	restartMin      = 100 * time.Millisecond // first delay of the restart policy
	restartMax      = time.Minute
	restartResetsAt = 10 * time.Second // a run this long makes the delay small again
)

// watch waits for the end of a task. It ends with the daemon, whose successor then takes over.
func (e *Engine) watch(c *ctr, task Task, settled chan struct{}) {
	for {
		select {
		case <-task.OOM():
			e.oomKilled(c, e.countKills(c, task))
		case <-c.kills.news:
			e.oomKilled(c, 0)
		case <-task.Done():
			e.lastKills(c, task)
			e.exited(c, task, settled)
			return
		case <-e.life.Done():
			return
		}
	}
}

// lastKills tells of the kills that nothing has told of before the end.
func (e *Engine) lastKills(c *ctr, task Task) {
	n := int(task.Exit().OOMKills)
	select {
	case <-task.OOM():
		n = max(n, e.countKills(c, task))
	case <-c.kills.news:
	default:
		if n == 0 {
			return
		}
	}
	e.oomKilled(c, n)
}

// exited notes the end of a run, clears away what it left and does what the restart policy and --rm ask for.
//
// Whoever waits for the container is told first; a start that follows at once waits on settled, and so does a removal but
// for that of endsWhole.
func (e *Engine) exited(c *ctr, task Task, settled chan struct{}) {
	exit := task.Exit()
	c.box.Load().stop()
	c.stopProbes()
	before := c.view()
	ctx := behalf(before.endedBy(exit))
	again, delay := e.restartAfter(before, exit)
	to := container.StateExited
	if again {
		to = container.StateRestarting
	}
	remove := false
	rec := e.deathOf(before, exit)
	rec.OOMKills, rec.WillRestart = c.kills.all(), again
	e.markFirst(rec.OOMKills, task.Pid(), exit)
	if rec.Stop == nil {
		rec.Sender = e.senderOf(c.id, task.Pid(), rec.Started, exit)
	}
	if rec.Denials = c.denials.Load().take(); len(rec.Denials) > 0 {
		rec.Rights = RightsOf(before.HostConfig, e.appArmorOf(before))
	}
	box := e.keepBox(c, rec)
	c.awaitTold()
	pending := e.deaths.begin(rec) // whoever is told of the end finds it
	pending.box = box
	err := c.moveAnd(to, func(v *view) {
		_, _, remove = v.removalAtEnd()
		remove = remove && to == container.StateExited && (c.held == 0 || v.Life.Removal != nil)
		noteEnd(v, exit)
		if again {
			v.Life.RestartCount++
		}
	}, func() { e.emitEnd(ctx, before, exit) })
	e.saved(c, err)
	if again && c.view().Life.Removal != nil && e.endRestarting(c) { // somebody has wished for it in the very last moment
		again, remove = false, true
	}
	e.stopSampling(c.id) // its hold on the network namespace must go before what clear takes away
	left := make(chan remains, 1)
	core := coreState(rec.Exit.Core)
	go func() {
		left <- e.gatherRemains(before, exit, core)
	}()
	e.disconnect(ctx, c, before)
	last := <-left // before a removal takes away what it reads
	pending.complete(func(r *death.Record) {
		r.LastLines, r.LastSamples, r.Learned, r.Core, r.Activity = last.lines, last.samples, last.learned, last.core, last.activity
	})
	e.goWork(func() {
		e.clear(c, task)
		close(settled)
	})
	switch {
	case again:
		e.restartLater(c, delay)
	case remove:
		o, by, _ := c.view().removalAtEnd()
		e.removeLater(c, by, o)
	}
}

// emitEnd publishes the end of the run that before shows.
func (e *Engine) emitEnd(ctx context.Context, before *view, exit Exit) {
	if exit.OOMKilled && !before.Life.OOMKilled {
		e.emit(ctx, before, events.ActionOOM, nil)
	}
	ran := exit.Lasted(before.Life.StartedAt)
	e.emit(ctx, before, events.ActionDie, map[string]string{
		"exitCode":     strconv.Itoa(exit.Code),
		"execDuration": strconv.Itoa(int(ran.Seconds())),
	})
}

// disconnect takes a container that has ended off its network and volumes.
func (e *Engine) disconnect(ctx context.Context, c *ctr, before *view) {
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	// Also one without networks may have ports that were forwarded to it.
	if err := e.deps.Network.Detach(ctx, c.id); err != nil {
		e.log.Error("container was not taken off its network", "container", c.id, "err", err)
	}
	if before.ResolvedNet == "" {
		for _, name := range networkNames(before) {
			e.emitNetwork(ctx, before, events.ActionDisconnect, name)
		}
	}
	for _, m := range before.Mounts {
		if m.Type == mount.TypeVolume {
			held, err := e.deps.Volumes.Unmount(m.Name, c.id)
			if err != nil {
				e.log.Error("volume stays mounted", "container", c.id, "err", err)
			}
			e.emitUnmount(ctx, before, m, held)
		}
	}
}

// clear takes away what a run has left outside of the container's directories.
func (e *Engine) clear(c *ctr, task Task) {
	ctx, cancel := context.WithTimeout(context.Background(), clearTimeout)
	defer cancel()
	if err := task.Delete(ctx); err != nil {
		e.log.Error("run was not cleared away", "container", c.id, "err", err)
	}
}

// restartAfter decides whether and when the restart policy starts the container again.
func (e *Engine) restartAfter(v *view, exit Exit) (again bool, delay time.Duration) {
	if v.removing || v.noRestart || v.Life.Removal != nil || e.life.Err() != nil {
		return false, 0
	}
	p := v.HostConfig.RestartPolicy
	switch p.Name {
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
	case container.RestartPolicyOnFailure:
		if exit.Code == 0 || (p.MaximumRetryCount > 0 && v.Life.RestartCount >= p.MaximumRetryCount) {
			return false, 0
		}
	default:
		return false, 0
	}
	return true, restartDelay(v.restartDelay, exit.Lasted(v.Life.StartedAt))
}

// restartDelay doubles the last delay, within its bounds, or begins anew after a run that was long enough.
func restartDelay(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= restartResetsAt {
		return restartMin
	}
	return min(2*last, restartMax)
}

// restartLater starts the container after a delay, unless somebody stops, starts or removes it before.
func (e *Engine) restartLater(c *ctr, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.view().status(); s != container.StateRestarting || c.cancel != nil || e.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(e.life)
	c.cancel = cancel
	c.publish(func(v *view) { v.restartDelay = delay })
	e.goWork(func() {
		defer cancel()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			e.restartNow(ctx, c)
		case <-ctx.Done():
		}
	})
}

func (e *Engine) restartNow(ctx context.Context, c *ctr) {
	defer e.begin(ctx, "restart policy", c)()
	release, err := c.turn.take(ctx, "restart policy")
	if err != nil {
		return // cancelled
	}
	defer release()
	if ctx.Err() != nil || c.view().status() != container.StateRestarting || c.view().removing {
		return
	}
	by := c.view().startedBy().Follows()
	err = e.start(event.WithOrigin(context.WithoutCancel(ctx), by), c, state.RunPolicy)
	if err == nil || !e.giveUpRestart(c) {
		return
	}
	// As with Docker, a policy starts again what has ended, not what could not be started.
	e.log.Warn("restart policy could not start container", "container", c.id, "error", c.view().Life.Error)
	if c.view().HostConfig.AutoRemove {
		e.removeLater(c, by, forRm)
	}
}

// giveUpRestart has a container rest whose restart has failed; false: it does already, or was none.
func (e *Engine) giveUpRestart(c *ctr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view().status() != container.StateRestarting {
		return false
	}
	e.saved(c, c.moveLocked(container.StateExited, func(v *view) { v.exits++; v.Life.FinishedAt = time.Now().UTC() }, nil))
	return true
}

// startedBy is who asked for the present run; nil if that is not known.
func (v *view) startedBy() *event.Origin {
	r, _ := v.Life.Last()
	return r.By
}

// endedBy is who asked for an end, else who started what has ended by itself.
func (v *view) endedBy(exit Exit) *event.Origin {
	if a := v.decisive(exit); a != nil {
		return a.By
	}
	return v.startedBy().Follows()
}

// cancelRestart ends a waiting restart.
func (c *ctr) cancelRestart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
	}
}

// endedHealth is the health of a container that has ended: what was found stays, but nothing is expected any more.
func endedHealth(h *container.Health) *container.Health {
	ended := *h
	ended.Status = container.Unhealthy
	return &ended
}
