package builds

import (
	"context"
	"fmt"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// lookAgain is how long is waited before a build that runs is looked at again.
const lookAgain = 200 * time.Millisecond

// begun tells that a step runs a process, or will not any more.
func begun(s *api.BuildStep) bool {
	return s.Process != "" || s.State != api.StepWaiting && s.State != api.BuildRunning
}

// again waits a moment and returns the build as it is then.
func again(ctx context.Context, c *client.Client, id string) (api.Build, error) {
	select {
	case <-time.After(lookAgain):
		return c.Build(ctx, id)
	case <-ctx.Done():
		return api.Build{}, context.Cause(ctx)
	}
}

// awaitStep waits until the step that is to be followed has begun, or the build has
// ended.
func (o *logsOptions) awaitStep(ctx context.Context, c *client.Client, b api.Build) (_ api.Build, err error) {
	for b.State == api.BuildRunning && err == nil {
		if s := b.Step(o.step); s != nil && begun(s) {
			break
		}
		b, err = again(ctx, c, b.ID)
	}
	return b, err
}

// followBuild prints the steps of a build as they come, to its end. Of those that
// run at the same time each is printed whole before the next.
func (o *logsOptions) followBuild(ctx context.Context, a *command.App, c *client.Client, b api.Build) (err error) {
	printed := map[int]bool{}
	for {
		s := nextStep(&b, printed)
		switch {
		case s == nil && b.State != api.BuildRunning:
			return o.end(&b)
		case s == nil:
			o.flush()
			if b, err = again(ctx, c, b.ID); err != nil {
				return err
			}
			continue
		case s.State != api.BuildRunning:
			err = o.section(ctx, a, c, s)
		default:
			b, err = o.followStep(ctx, a, c, &b, s)
		}
		if err != nil {
			return err
		}
		printed[s.Number] = true
	}
}

// nextStep is the first that has begun and was not printed; nil: there is none.
func nextStep(b *api.Build, printed map[int]bool) *api.BuildStep {
	for i := range b.Steps {
		if s := &b.Steps[i]; s.Number > 0 && !printed[s.Number] && begun(s) {
			return s
		}
	}
	return nil
}

// followStep prints a step that runs, and what has become of it. It returns the
// build as it is then.
func (o *logsOptions) followStep(ctx context.Context, a *command.App, c *client.Client, b *api.Build, s *api.BuildStep) (now api.Build, err error) {
	_, _ = fmt.Fprintf(o.out, "#%d %s: %s\n", s.Number, command.Visible(title(s)), outcome(s))
	if now, err = o.toEnd(ctx, a, c, b, s); err != nil {
		return now, err
	}
	end := now.Step(s.Number)
	if end == nil {
		return now, fmt.Errorf("build %s has no step %d any more", b.ID, s.Number)
	}
	_, _ = fmt.Fprintf(o.out, "#%d %s\n", s.Number, outcome(end))
	return now, o.failure(end)
}

// toEnd prints what a step prints until it has ended, and returns the build as it
// is then. A step is recorded a moment before it has a process to be followed, and
// its end a moment after that of the process.
func (o *logsOptions) toEnd(ctx context.Context, a *command.App, c *client.Client, b *api.Build, s *api.BuildStep) (now api.Build, err error) {
	now = *b
	before := o.printed
	for ; err == nil && now.State == api.BuildRunning && stillRuns(now.Step(s.Number), s); now, err = again(ctx, c, b.ID) {
		if o.printed > before {
			continue
		}
		if err := o.one(ctx, a, c, s); err != nil {
			return now, err
		}
		o.flush()
	}
	if end := now.Step(s.Number); err == nil && end != nil && o.printed == before {
		err = o.one(ctx, a, c, end) // it may have come and gone between two looks
	}
	return now, err
}

// stillRuns tells that a step is recorded as the one that was.
func stillRuns(now, was *api.BuildStep) bool {
	return now != nil && now.State == api.BuildRunning && now.Process == was.Process
}
