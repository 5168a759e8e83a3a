package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/runtime"
)

// Actions of events about steps, whose type is that of builders.
const (
	actionStepStart events.Action = "step_start"
	actionStepDie   events.Action = "step_die"
	actionStepOOM   events.Action = "step_oom"
)

// emitStep publishes an event about a step.
func (e *Engine) emitStep(ctx context.Context, s *step.Step, action events.Action, extra map[string]string) {
	attributes := map[string]string{"name": s.Name}
	maps.Copy(attributes, extra)
	e.emitOther(ctx, events.BuilderEventType, action, s.ID, attributes)
}

// emitOn publishes an event about what a container and a step have in common.
func (e *Engine) emitOn(ctx context.Context, c *ctr, action events.Action, extra map[string]string) {
	if c.step != nil {
		e.emitStep(ctx, c.step, action, extra)
		return
	}
	e.emit(ctx, c.view(), action, extra)
}

// stepEnded tells of the end of a step, and of one that did not succeed why: what the kernel killed, and what in its
// files kept a command from being executed. That is in its death record as well.
func (e *Engine) stepEnded(ctx context.Context, r *runningStep, started time.Time, x Exit) step.Exit {
	out := step.Exit{Code: x.Code, Signal: x.Signal, OOMKilled: x.OOMKilled}
	e.emitStep(ctx, r.step, actionStepDie, map[string]string{
		"exitCode": strconv.Itoa(x.Code), "execDuration": strconv.Itoa(int(x.Lasted(started).Seconds())),
	})
	kills := e.stepKills(ctx, r, x)
	for _, k := range kills {
		e.emitStep(ctx, r.step, actionStepOOM, oomAttributes(k))
	}
	if x.Code == 0 {
		return out
	}
	rec := e.stepDeath(ctx, r.step, r.view)
	rec.Started, rec.Finished, rec.Exit, rec.OOMCount = started, x.At.UTC(), exitForm(x), x.OOMKills
	rec.OOMKills = kills
	e.markFirst(rec.OOMKills, r.task.Pid(), x)
	rec.LastLines = e.stepLastLines(ctx, r.step)
	if x.Signal == 0 {
		rec.Finding = e.diagnoseStep(r, x.Code, rec.LastLines)
	}
	switch {
	case len(kills) > 0:
		out.Reason = "out of memory (OOM): " + kills[len(kills)-1].Text()
	case x.OOMKilled:
		out.Reason = "out of memory (OOM): the kernel killed processes of the step"
	case rec.Finding != nil:
		out.Reason = rec.Finding.Hint()
	}
	e.deaths.add(rec)
	return out
}

// stepDeath begins the death record of a step.
func (e *Engine) stepDeath(ctx context.Context, s *step.Step, v *view) *death.Record {
	return &death.Record{
		Container: s.ID, Name: s.ID[:12], Step: s.Name, Run: 1, Command: s.Process.Args, TTY: s.Process.Terminal,
		StartedBy: event.OriginOf(ctx), Limits: e.limitsOf(v.HostConfig),
	}
}

// stepNotStarted records a step whose program could not be started, and adds to the error what was found.
func (e *Engine) stepNotStarted(ctx context.Context, r *runningStep, err error) error {
	failure := startFailure(err)
	se, ok := errors.AsType[*runtime.StartError](err)
	if !ok {
		return failure
	}
	rec := e.stepDeath(ctx, r.step, r.view)
	rec.Finished, rec.Exit = time.Now().UTC(), death.Exit{Observed: true, Code: exitCodeOf(failure)}
	rec.StartError = &death.StartError{Step: se.Step, Path: se.Path, Errno: se.Errno, Message: se.Message}
	if aboutProgram(err) {
		rec.StartError.Finding = e.lookIntoStep(r, r.step.Process.Args, se.Errno == syscall.EACCES)
	}
	e.deaths.add(rec)
	if f := rec.StartError.Finding; f != nil {
		return fmt.Errorf("%w: %s", failure, f.Hint())
	}
	return failure
}

// stepKills are the victims of OOM kills in a step, as far as the kernel's log names them by now.
func (e *Engine) stepKills(ctx context.Context, r *runningStep, x Exit) []death.OOMKill {
	if x.OOMKills == 0 && !x.OOMKilled {
		return r.ctr.kills.all()
	}
	timer := time.NewTimer(oomTellWait)
	defer timer.Stop()
	for len(r.ctr.kills.all()) < max(1, int(x.OOMKills)) && e.kernel.reader != nil {
		select {
		case <-r.ctr.kills.news:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		break
	}
	return r.ctr.kills.all()
}

// stepLastLines are the last that a step has printed.
func (e *Engine) stepLastLines(ctx context.Context, s *step.Step) []death.Line {
	o := crilog.ReadOptions{Stdout: true, Stderr: true, Tail: death.MaxLines, Unpack: unpackLog}
	lines, err := linesOf(ctx, s.LogDir, o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("last lines are not in the death record", "step", s.ID, "err", err)
	}
	return lines
}

// saysRefused is what shells say of a command that they do not find or may not execute, which is the group.
var saysRefused = regexp.MustCompile(`(?:^|/)\w*sh: (?:(?:line )?\d+: )?([^\s:]+): (?i:not found|command not found|no such file|permission denied|cannot execute|bad interpreter|exec format error)`)

// Codes by which shells tell of such a command.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// diagnoseStep looks for what keeps a command from being executed that a step's shell has told of.
func (e *Engine) diagnoseStep(r *runningStep, code int, lines []death.Line) *death.Finding {
	if code != codeNotExecutable && code != codeNotFound {
		return nil
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if m := saysRefused.FindStringSubmatch(strings.TrimSpace(string(lines[i].Text))); m != nil {
			return e.lookIntoStep(r, []string{m[1]}, code == codeNotExecutable)
		}
	}
	return nil
}

// lookIntoStep looks at the files of a step whose processes have ended.
func (e *Engine) lookIntoStep(r *runningStep, args []string, denied bool) *death.Finding {
	if e.deps.Diagnose == nil || r.step.RootFS.Upper == "" {
		return nil
	}
	root, err := r.step.RootFS.OpenMerged()
	if err != nil {
		e.log.Debug("files of a step were not looked at", "step", r.step.ID, "err", err)
		return nil
	}
	defer root.Close()
	f := &containerFS{root: root}
	p := &r.step.Process
	return e.deps.Diagnose(Refused{
		OpenFiles: f.files(r.view), Args: args, Env: p.Env, Dir: p.Cwd, User: p.User, Denied: denied,
	})
}
