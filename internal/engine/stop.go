package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/signals"
)

// How long is waited after SIGKILL, and then after the kernel was told to kill the whole cgroup.
const (
	killWait  = 10 * time.Second
	groupWait = 2 * time.Second
)

// ContainerStop asks a container to end and kills it after the timeout. A stopped one gives errdefs.ErrNotModified. The
// stop goes on when the client goes away. It does not take the container's turn: stopping must be possible whatever else
// is under way.
func (e *Engine) ContainerStop(ctx context.Context, ref string, o StopOptions) error {
	c, done, err := e.operate(ctx, "stop", ref)
	if err != nil {
		return err
	}
	defer done()
	sig, err := stopSignal(c.view(), o.Signal)
	if err != nil {
		return err
	}
	if !c.view().live() {
		return notModified("container %s is already stopped", c.id)
	}
	if err := e.stop(context.WithoutCancel(ctx), c, askStop, sig, e.stopTimeout(c.view(), o.Timeout)); err != nil {
		return fmt.Errorf("cannot stop container: %s: %w", ref, err)
	}
	e.saveStop(ctx, c)
	return nil
}

// saveStop returns when it is on disk that somebody has stopped a container: the restart policy of the next daemon asks.
// A disk that is full makes the stop none the less done, and what is to be saved is tried again.
func (e *Engine) saveStop(ctx context.Context, c *ctr) {
	e.saved(c, e.deps.State.Flush(context.WithoutCancel(ctx)))
}

// stopSignal is the signal named, else the container's, else SIGTERM.
func stopSignal(v *view, name string) (syscall.Signal, error) {
	if name == "" {
		name = v.Config.StopSignal
	}
	if name == "" {
		return syscall.SIGTERM, nil
	}
	return parseSignal(name)
}

func parseSignal(name string) (syscall.Signal, error) {
	sig, err := signals.Parse(name)
	if err != nil {
		return 0, invalid("%s", err)
	}
	return sig, nil
}

// stopTimeout is negative for a stop that waits for ever.
func (e *Engine) stopTimeout(v *view, seconds *int) time.Duration {
	if seconds == nil {
		seconds = v.Config.StopTimeout
	}
	if seconds == nil {
		return e.config.StopTimeout
	}
	return time.Duration(*seconds) * time.Second
}

// What clients ask for that ends a container.
const (
	askStop    = "stop"
	askKill    = "kill"
	askRestart = "restart"
	askRemove  = "remove"
)

// asks is what the client behind ctx asks for.
func asks(ctx context.Context, action string, sig syscall.Signal) *state.Asked {
	return &state.Asked{Action: action, Signal: sig, At: time.Now().UTC(), By: event.OriginOf(ctx), Ends: true}
}

// stop ends a container and returns when it has ended.
func (e *Engine) stop(ctx context.Context, c *ctr, action string, sig syscall.Signal, timeout time.Duration) error {
	first := c.view()
	asked := asks(ctx, action, sig)
	asked.Timeout = timeout
	note := func(v *view) { v.Life.Stopped, v.noRestart, v.Life.Asked = true, true, asked }
	e.saved(c, c.updateSaved(note))
	if first.status() == container.StateRestarting {
		e.stopRestarting(c)
		if first = c.view(); !first.live() {
			e.emit(ctx, first, events.ActionStop, nil)
			return nil
		}
		e.saved(c, c.updateSaved(note)) // a run has begun meanwhile, which forgets what was asked of the last one
	}
	err := e.signal(ctx, c, sig)
	if timeout < 0 && err != nil {
		return err
	}
	if err != nil && !errdefs.IsConflict(err) {
		e.log.Warn("stop signal was not sent", "container", c.id, "err", err)
		timeout = min(timeout, groupWait)
	}
	if first.task == nil && c.view().task == nil {
		timeout = 0 // nobody could be asked, see discard
	}
	ended := e.awaitEnd(ctx, c, first, timeout)
	if !ended {
		late := *asked
		late.KilledAt = time.Now().UTC()
		e.saved(c, c.updateSaved(func(v *view) { v.Life.Asked = &late }))
		if err := e.killHard(ctx, c, first); err != nil {
			return err
		}
	}
	e.emit(ctx, c.view(), events.ActionStop, nil)
	return nil
}

// errStopped breaks off a start by the restart policy, of a container that somebody stops.
var errStopped = errors.New("the container is being stopped")

// stopRestarting turns a container that waits for its restart into one that has exited. If the start is under way already
// it comes to its end first, and the container may run then. One that hangs is broken off.
func (e *Engine) stopRestarting(c *ctr) {
	patience := time.NewTimer(killWait)
	defer patience.Stop()
	for {
		v := c.view()
		if v.status() != container.StateRestarting || e.endRestarting(c) {
			return
		}
		select {
		case <-v.next:
		case <-patience.C:
			c.cancelStart(errStopped)
		case <-e.life.Done():
			return
		}
	}
}

// endRestarting ends a restart that has not begun; false: it has.
func (e *Engine) endRestarting(c *ctr) bool {
	c.cancelRestart()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starting != nil {
		return false
	}
	if c.view().status() == container.StateRestarting {
		e.saved(c, c.moveLocked(container.StateExited, func(v *view) { v.exits++ }, nil))
	}
	return true
}

// awaitEnd waits for the end of the run that first shows; a negative timeout means for ever.
func (e *Engine) awaitEnd(ctx context.Context, c *ctr, first *view, timeout time.Duration) bool {
	if timeout >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return e.await(ctx, c, first, container.WaitConditionNotRunning) != nil
}

// killHard sends SIGKILL, and when that does not help kills whatever is left in the cgroup. What waits in the kernel where
// SIGKILL does not reach it gives a [stuckError] a few seconds later; its shim is left to it, to see its end.
func (e *Engine) killHard(ctx context.Context, c *ctr, first *view) error {
	if first.task == nil && c.view().task == nil && first.status() != container.StateRestarting {
		if err := e.giveUpShim(ctx, c); err != nil {
			return err
		}
	}
	wait, killing := groupWait, groupWait
	if err := e.signal(ctx, c, syscall.SIGKILL); err != nil && !errdefs.IsConflict(err) {
		e.log.Warn("container was not killed by signal", "container", c.id, "err", err)
		if errdefs.IsUnavailable(err) {
			wait = 0 // its shim would not tell of the end
		}
	} else if ended, stuck := e.awaitKilled(ctx, c, first); ended {
		return nil
	} else if stuck {
		wait, killing = stuckLook, stuckLook // for the others: the kernel ends them with the first process, which may never end
	}
	if task := c.view().task; task != nil {
		bounded, cancel := context.WithTimeout(ctx, killing)
		defer cancel()
		if err := task.Kill(bounded); err != nil {
			e.log.Warn("processes of container were not killed", "container", c.id, "err", err)
		}
	}
	if e.awaitEnd(ctx, c, first, wait) {
		return nil
	}
	if list := unreached(ctx, c.view().task); len(list) > 0 {
		return e.stuck(list)
	}
	if err := e.giveUpShim(ctx, c); err != nil {
		e.log.Warn("container was not ended without its shim", "container", c.id, "err", err)
	}
	if e.awaitEnd(ctx, c, first, groupWait) {
		return nil
	}
	return noExitEvent(c.view())
}

// giveUpShim ends a container whose shim tells nothing, together with the shim.
func (e *Engine) giveUpShim(ctx context.Context, c *ctr) error {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	task := c.view().task
	if task == nil {
		return e.discard(ctx, c)
	}
	e.log.Warn("shim does not tell of the end of its container and is killed", "container", c.id)
	return task.Delete(ctx)
}

// noExitEvent names the processes that do not die.
func noExitEvent(v *view) error {
	if v.task == nil {
		return internal(errNoExitEvent)
	}
	pids, _ := v.task.Pids()
	return internal(errNoExitEvent+"; processes still in it: %v", pids)
}

// signal sends a signal to the first process. A paused container is thawed afterwards so that it can act on it.
func (e *Engine) signal(ctx context.Context, c *ctr, sig syscall.Signal) error {
	v := c.view()
	if v.task == nil || !v.live() {
		return errNotRunning(c.id)
	}
	c.telling.Add(1)
	defer c.telling.Add(-1)
	if err := v.task.Signal(ctx, sig); err != nil {
		if errdefs.IsNotFound(err) || errors.Is(err, syscall.ESRCH) || hasEnded(v.task) {
			return errNotRunning(c.id)
		}
		return err
	}
	if v.status() == container.StatePaused {
		if err := v.task.Thaw(ctx); err != nil {
			return err
		}
		if err := c.resume(); err == nil {
			e.emit(ctx, v, events.ActionUnPause, nil)
		}
	}
	e.emit(ctx, v, events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
	return nil
}

// awaitTold waits, for a moment, until the event of a signal has been told that may have ended the container: that
// comes before the end.
func (c *ctr) awaitTold() {
	const tick, moment = time.Millisecond, 100 * time.Millisecond
	if c.telling.Load() == 0 {
		return
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for late := time.After(moment); c.telling.Load() > 0; {
		select {
		case <-ticks.C:
		case <-late:
			return
		}
	}
}

// hasEnded tells whether a task that did not take a signal has ended, or does so in the next moment: its shim goes a
// little before the news of the end.
func hasEnded(task Task) bool {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-task.Done():
		return true
	case <-timer.C:
		return false
	}
}

// ContainerKill sends a signal (name or number; empty: SIGKILL). Only SIGKILL is waited for.
func (e *Engine) ContainerKill(ctx context.Context, ref, name string) error {
	c, done, err := e.operate(ctx, "kill", ref)
	if err != nil {
		return err
	}
	defer done()
	sig := syscall.SIGKILL
	if name != "" {
		if sig, err = parseSignal(name); err != nil {
			return err
		}
	}
	if err := e.kill(ctx, c, sig); err != nil {
		return err // the server names the container in front, as Docker does
	}
	e.saveStop(ctx, c)
	return nil
}

func (e *Engine) kill(ctx context.Context, c *ctr, sig syscall.Signal) error {
	first := c.view()
	if !first.live() {
		c.awaitGoing(ctx)
		if first = c.view(); !first.live() {
			return errNotRunning(c.id)
		}
	}
	// As with Docker every kill counts as a stop by hand for the next daemon, but only a signal that is meant to end the
	// container keeps the restart policy of this run quiet.
	own, err := stopSignal(first, "")
	ends := err == nil && (sig == syscall.SIGKILL || sig == own || first.Config.StopSignal == "")
	asked := asks(ctx, askKill, sig)
	asked.Ends = ends
	e.saved(c, c.updateSaved(func(v *view) {
		v.Life.Stopped, v.noRestart = true, v.noRestart || ends
		if before := v.Life.Asked; ends || before == nil || !before.Ends {
			v.Life.Asked = asked
		}
	}))
	if ends && first.status() == container.StateRestarting {
		e.stopRestarting(c)
		if first = c.view(); !first.live() {
			return nil
		}
		e.saved(c, c.updateSaved(func(v *view) { v.Life.Asked = asked })) // as in stop
	}
	if sig != syscall.SIGKILL && first.task == nil {
		return errNoTask(first)
	}
	if sig != syscall.SIGKILL {
		return e.signal(ctx, c, sig)
	}
	return e.killHard(context.WithoutCancel(ctx), c, first)
}

// ContainerRestart stops and starts. Once the stop has begun the client cannot interrupt it.
func (e *Engine) ContainerRestart(ctx context.Context, ref string, o StopOptions) error {
	c, done, err := e.operate(ctx, "restart", ref)
	if err != nil {
		return err
	}
	defer done()
	sig, err := stopSignal(c.view(), o.Signal)
	if err != nil {
		return err
	}
	stopped, release, err := e.stopForRestart(ctx, c, sig, o.Timeout)
	if err != nil {
		return fmt.Errorf("Cannot restart container %s: %w", ref, err)
	}
	defer release()
	ctx = context.WithoutCancel(ctx)
	if stopped && c.view().live() {
		return nil // somebody else has started it meanwhile
	}
	if err := c.updateSaved((*view).startedByHand); err != nil {
		return err
	}
	if err := e.start(ctx, c, state.RunRestarted); err != nil {
		return fmt.Errorf("Cannot restart container %s: %w", ref, err)
	}
	e.emit(ctx, c.view(), events.ActionRestart, nil)
	return nil
}

// stopForRestart stops a container, if it runs, and takes its turn. It has that not while it stops: the container may
// take as long as it was given, and to be updated or removed must be possible meanwhile.
func (e *Engine) stopForRestart(ctx context.Context, c *ctr, sig syscall.Signal, seconds *int) (stopped bool, release func(), err error) {
	goes := func(v *view) bool { return v.removing || v.status() == container.StateDead }
	for {
		v := c.view()
		if v.live() && !goes(v) && !stopped {
			letGo := c.holdRemoval()
			err := e.stop(context.WithoutCancel(ctx), c, askRestart, sig, e.stopTimeout(v, seconds))
			letGo()
			if err != nil {
				return false, nil, err
			}
			stopped = true
		}
		waiting := ctx
		if stopped { // it is not to be left so
			waiting = context.WithoutCancel(ctx)
		}
		if release, err = c.turn.take(waiting, "restart"); err != nil {
			return false, nil, err
		}
		switch v = c.view(); {
		case goes(v):
			release()
			return false, nil, conflict("container is marked for removal and cannot be started")
		case stopped || !v.live():
			return stopped, release, nil
		}
		release() // its start was under way
	}
}

// holdRemoval keeps --rm from removing the container at its next end, until the returned function is called.
func (c *ctr) holdRemoval() (letGo func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held--
	}
}
