package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/waits"
	"github.com/portholehq/porthole/internal/problem"
)

// errNoExitEvent is what Docker says of a container that does not die.
const errNoExitEvent = "tried to kill container, but did not receive an exit event"

// A process is stuck that SIGKILL was sent to, when one of its threads has slept in the kernel for stuckLooks looks
// without being woken up. A slow disk wakes it up more often.
const (
	stuckLook  = 500 * time.Millisecond
	stuckLooks = 6
)

// stuckError tells that a container lives on after SIGKILL, since a process of it waits in the kernel where that does not
// reach it. It ends as soon as what it waits for comes.
type stuckError struct{ error }

func (e *stuckError) Unwrap() error { return e.error }

// stuck names who does not die, and what for.
func (e *Engine) stuck(list []waits.Wait) error {
	w := list[0]
	hint := fmt.Sprintf("%s (pid %d on the host) cannot be killed", w.Command, w.PID)
	if len(list) > 1 {
		hint += fmt.Sprintf(", nor can %d others", len(list)-1)
	}
	hint += ": " + w.Text()
	if w.Channel != "" {
		hint += " (" + w.Channel + ")"
	}
	if next := w.Remedies(); len(next) > 0 {
		hint += "; " + next[0]
	}
	return problem.WithHint(&stuckError{internal(errNoExitEvent)}, hint)
}

// awaitKilled waits for the end of a run that was sent SIGKILL, up to killWait. It returns earlier if it is seen that a
// process does not get the signal.
func (e *Engine) awaitKilled(ctx context.Context, c *ctr, first *view) (ended, stuck bool) {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	type sleeper struct{ thread, looks int }
	var before map[sleeper]int
	for !e.awaitEnd(ctx, c, first, stuckLook) {
		if ctx.Err() != nil {
			return false, false
		}
		seen := map[sleeper]int{}
		for _, s := range waits.Sleepers(ctx, pidsOf(c.view().task)) {
			key := sleeper{s.Thread, s.Switches}
			if seen[key] = before[key] + 1; s.Killed && seen[key] >= stuckLooks {
				return false, true
			}
		}
		before = seen
	}
	return true, false
}

// unreached are the processes that SIGKILL was sent to and that sleep where it does not wake them up.
func unreached(ctx context.Context, task Task) []waits.Wait {
	var list []waits.Wait
	for _, w := range waits.Find(ctx, pidsOf(task)) {
		if w.Killed {
			list = append(list, w)
		}
	}
	return list
}

// pidsOf are the processes of a container; none if that is not known.
func pidsOf(task Task) []int {
	if task == nil {
		return nil
	}
	pids, err := task.Pids()
	if err != nil {
		return nil
	}
	return pids
}

// removeAtEnd has a container removed as soon as it ends, also by a later daemon. It gives up the claim of the removal
// that could not be done, in the same step. It is false if the run has ended meanwhile: then nothing has changed.
func (e *Engine) removeAtEnd(ctx context.Context, c *ctr, o RemoveOptions) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view().pid() == 0 {
		return false
	}
	c.publish(func(v *view) {
		v.removing, v.noRestart, v.Life.Stopped = false, true, true
		v.Life.Removal = &state.Removal{Volumes: o.Volumes, At: time.Now().UTC(), By: event.OriginOf(ctx)}
	})
	e.saved(c, c.save())
	return true
}

// removalAtEnd is what a container is to be removed with when it ends, and for whom; ok is false if it stays.
func (v *view) removalAtEnd() (o RemoveOptions, by *event.Origin, ok bool) {
	switch {
	case v.Life.Removal != nil:
		return RemoveOptions{Force: true, Volumes: v.Life.Removal.Volumes}, v.Life.Removal.By, true
	case v.HostConfig.AutoRemove:
		return forRm, v.startedBy().Follows(), true
	}
	return o, nil, false
}
