package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/record/health"
	"github.com/portholehq/porthole/internal/runtime"
)

// What a health check has where it does not say, and what is kept of its probes.
const (
	probeInterval      = 30 * time.Second
	probeTimeout       = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeRetries       = 3
	probesKept         = 5
	probeOutputKept    = 4096
)

// check is a health check with all that it left open filled in.
type check struct {
	argv                                          []string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
}

// healthCheck reads a container's health check; ok is false when it has none.
func healthCheck(c *container.Config) (k check, ok bool) {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return k, false
	}
	switch h.Test[0] {
	case "CMD":
		k.argv = h.Test[1:]
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		k.argv = append(slices.Clone(shell), h.Test[1])
	default:
		return k, false // NONE
	}
	or := func(d, fallback time.Duration) time.Duration {
		if d < container.MinimumDuration { // not set, or by an image, which nobody has checked
			return fallback
		}
		return d
	}
	k.interval, k.timeout = or(h.Interval, probeInterval), or(h.Timeout, probeTimeout)
	k.startPeriod, k.startInterval = h.StartPeriod, or(h.StartInterval, probeStartInterval)
	if k.retries = h.Retries; k.retries <= 0 {
		k.retries = probeRetries
	}
	return k, true
}

// startProbes begins to look after the health of a container that has just been started, or goes on with one that was
// adopted, whose health is what the log of its present run says.
func (e *Engine) startProbes(c *ctr) {
	k, ok := healthCheck(c.view().config())
	if !ok {
		return
	}
	past, last := e.openHealth(c)
	h := container.Health{Status: container.Starting}
	if last != nil {
		h = *last
	}
	ctx, cancel := context.WithCancel(e.life)
	done := make(chan struct{})
	c.mu.Lock()
	c.probes = sync.OnceFunc(func() { cancel(); <-done })
	c.publish(func(v *view) { v.health = &h })
	c.mu.Unlock()
	e.goWork(func() {
		defer close(done)
		if past != nil {
			defer past.Close()
		}
		e.probe(ctx, c, k, past)
	})
}

// openHealth opens the log of a container's checks; nil if that is not possible, which is no reason not to check. Last is
// the health that the present run had so far; nil: it was not checked yet.
func (e *Engine) openHealth(c *ctr) (past *health.Log, last *container.Health) {
	past, list, err := health.Open(e.healthPath(c.id))
	if err != nil {
		e.log.Error("results of health checks are not kept", "container", c.id, "err", err)
		return nil, nil
	}
	return past, healthOf(list, c.view().Life.Run)
}

func (e *Engine) healthPath(id string) string { return e.dir(id, "health") }

// healthOf is the health of a run as its results tell; nil if there are none.
func healthOf(list []health.Result, run int) *container.Health {
	list = slices.DeleteFunc(slices.Clone(list), func(r health.Result) bool { return r.Run != run })
	if len(list) == 0 {
		return nil
	}
	last := list[len(list)-1]
	h := &container.Health{Status: container.HealthStatus(last.Status), FailingStreak: last.FailingStreak}
	for _, r := range list[max(0, len(list)-probesKept):] {
		h.Log = append(h.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return h
}

// restoreHealth shows of a container that has ended what its last checks have said.
func (e *Engine) restoreHealth(c *ctr) {
	if _, ok := healthCheck(c.view().Config); !ok || c.view().Life.Run == 0 {
		return
	}
	list, err := health.Read(e.healthPath(c.id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Error("results of health checks cannot be read", "container", c.id, "err", err)
	}
	if h := healthOf(list, c.view().Life.Run); h != nil {
		c.update(func(v *view) { v.health = endedHealth(h) })
	}
}

// ContainerHealth returns a container's health, nil if it has none, and all results of its checks that are kept, the
// oldest first, also of earlier runs.
func (e *Engine) ContainerHealth(ref string) (*container.Health, []health.Result, error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, nil, err
	}
	list, err := health.Read(e.healthPath(v.ID))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return v.health, list, err
}

// stopProbes ends the probes of a container and returns when the last one is over.
func (c *ctr) stopProbes() {
	c.mu.Lock()
	stop := c.probes
	c.probes = nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// probe looks at a container's health in intervals, until ctx ends. The first probe comes one interval after the start, or
// after the last probe of the daemon before.
func (e *Engine) probe(ctx context.Context, c *ctr, k check, past *health.Log) {
	// Both times may come from a file: whoever has set the clock back since then must not delay the checks.
	began := time.Now().Add(-max(time.Since(c.view().Life.StartedAt), 0))
	wait := k.next(c.view().health, time.Since(began))
	if h := c.view().health; h != nil && len(h.Log) > 0 {
		wait = max(wait-max(time.Since(h.Log[len(h.Log)-1].End), 0), 0)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if c.view().status() == container.StateRunning {
			r, failure := e.probeOnce(ctx, c, k)
			if ctx.Err() != nil || cutShort(ctx, c.view(), r, failure) {
				return
			}
			timedOut := errors.Is(failure, errProbeTimeout)
			changed := e.noteProbe(c, k, r, r.Start.Sub(began) < k.startPeriod)
			e.keepProbe(c, past, r, timedOut)
			if changed {
				e.tellHealth(ctx, c, r)
			}
		}
		timer.Reset(k.next(c.view().health, time.Since(began)))
	}
}

// cutShortWait is how long the news of a container's end may be behind that of a probe that has failed for it.
const cutShortWait = 2 * time.Second

// cutShort tells whether a probe failed because the container was about to end: that says nothing of its health. Failure
// is why there is no exit code.
func cutShort(ctx context.Context, v *view, r *container.HealthcheckResult, failure error) bool {
	var own *startError // as for a program that is not there
	odd := failure != nil && !errors.Is(failure, errProbeTimeout) && !errors.As(failure, &own)
	if !odd && r.ExitCode != 128+int(syscall.SIGKILL) {
		return false
	}
	if v.task == nil {
		return true
	}
	timer := time.NewTimer(cutShortWait)
	defer timer.Stop()
	select {
	case <-v.task.Done():
		return true
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

// keepProbe puts a result, and the health that followed from it, into the log.
func (e *Engine) keepProbe(c *ctr, past *health.Log, r *container.HealthcheckResult, timedOut bool) {
	v := c.view()
	if past == nil || v.health == nil {
		return
	}
	err := past.Append(health.Result{
		Run: v.Life.Run, Start: r.Start, End: r.End, ExitCode: r.ExitCode, TimedOut: timedOut, Output: r.Output,
		Status: string(v.health.Status), FailingStreak: v.health.FailingStreak,
	})
	if err != nil {
		e.log.Error("result of a health check was not kept", "container", c.id, "err", err)
	}
}

// next is how long it is to the next probe.
func (k check) next(h *container.Health, ran time.Duration) time.Duration {
	if h != nil && h.Status == container.Starting && ran < k.startPeriod {
		return k.startInterval
	}
	return k.interval
}

// noteProbe draws conclusions from one probe, and tells whether the container's health is another now.
func (e *Engine) noteProbe(c *ctr, k check, r *container.HealthcheckResult, starting bool) (changed bool) {
	var before, after container.HealthStatus
	c.update(func(v *view) {
		h := container.Health{}
		if v.health != nil {
			h = *v.health
		}
		before = h.Status
		h.Log = append(slices.Clone(h.Log), r)
		h.Log = h.Log[max(0, len(h.Log)-probesKept):]
		switch {
		case r.ExitCode == 0:
			h.Status, h.FailingStreak = container.Healthy, 0
		case starting && h.Status == container.Starting:
			// Failures do not count while it starts up.
		default:
			if h.FailingStreak++; h.FailingStreak >= k.retries {
				h.Status = container.Unhealthy
			}
		}
		after = h.Status
		v.health = &h
	})
	return before != after
}

// tellHealth publishes what a container's health has become, and why if it is bad.
func (e *Engine) tellHealth(ctx context.Context, c *ctr, r *container.HealthcheckResult) {
	v := c.view()
	status := v.healthStatus()
	var extra map[string]string
	if status == container.Unhealthy {
		extra = map[string]string{"output": shortOutput(r.Output), "exitCode": strconv.Itoa(r.ExitCode)}
	}
	e.emit(ctx, v, events.Action(string(events.ActionHealthStatus)+": "+string(status)), extra)
}

// shortOutput is the beginning of what a probe has said, on one line, as events and lists have room for it.
func shortOutput(text string) string {
	const most = 256
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\ufffd")), " ")
	if len(text) <= most {
		return text
	}
	cut := most
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// probeOnce runs the check's command in the container.
func (e *Engine) probeOnce(ctx context.Context, c *ctr, k check) (r *container.HealthcheckResult, failure error) {
	r = &container.HealthcheckResult{Start: time.Now()}
	code, output, err := e.runProbe(ctx, c, k)
	r.End = time.Now()
	r.ExitCode, r.Output = code, output
	if err != nil {
		r.ExitCode, r.Output = -1, err.Error()
		if output != "" && errors.Is(err, errProbeTimeout) {
			r.Output += ": " + output
		}
	}
	return r, err
}

var errProbeTimeout = errors.New("Health check exceeded timeout")

func (e *Engine) runProbe(ctx context.Context, c *ctr, k check) (code int, output string, err error) {
	x := &execution{id: randomID(), c: c, started: true, req: container.ExecCreateRequest{Cmd: k.argv, AttachStdout: true, AttachStderr: true}}
	e.execs.add(x)
	e.emitExec(ctx, x, events.ActionExecCreate)
	defer e.execs.drop(x.id)
	v := c.view()
	process, err := e.execProcess(v, x.req)
	if err != nil {
		return 0, "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	proc, err := e.startProbe(ctx, v, x, runtime.ExecOptions{ID: x.id, Process: process, GroupAdd: v.HostConfig.GroupAdd, Stdout: w, Stderr: w, Note: execNote{Probe: true}.encode()})
	w.Close()
	if err != nil {
		r.Close()
		return 0, "", err
	}
	var kept keeper
	ended := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { copyOutput(r, ended, kept.write) })
	timedOut := awaitProbe(ctx, proc, k.timeout)
	close(ended)
	reading.Wait()
	select {
	case <-proc.Done():
		code = proc.Exit().Code
		x.finish(code)
		e.emit(ctx, c.view(), events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(code)})
	default: // not even SIGKILL has ended it
	}
	if timedOut {
		return -1, kept.String(), fmt.Errorf("%w (%s)", errProbeTimeout, k.timeout)
	}
	return code, kept.String(), nil
}

func (e *Engine) startProbe(ctx context.Context, v *view, x *execution, o runtime.ExecOptions) (Process, error) {
	if v.task == nil {
		return nil, errNotRunning(v.ID)
	}
	proc, err := v.task.Exec(ctx, o)
	if err != nil {
		return nil, execFailure(err)
	}
	e.emitExec(ctx, x, events.ActionExecStart)
	if err := proc.Start(ctx); err != nil {
		return nil, execFailure(err)
	}
	return proc, nil
}

// awaitProbe waits for a probe's end, and kills it when its time is over or ctx ends.
func awaitProbe(ctx context.Context, proc Process, timeout time.Duration) (timedOut bool) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-proc.Done():
		return false
	case <-timer.C:
		timedOut = true
	case <-ctx.Done():
	}
	kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupWait)
	defer cancel()
	if proc.Signal(kill, syscall.SIGKILL) == nil {
		select {
		case <-proc.Done():
		case <-kill.Done():
		}
	}
	return timedOut
}

// keeper keeps the beginning of a probe's output.
type keeper struct {
	b    strings.Builder
	more bool
}

func (k *keeper) write(p []byte) {
	if room := probeOutputKept - k.b.Len(); len(p) > room {
		p, k.more = p[:room], true
	}
	k.b.Write(p)
}

func (k *keeper) String() string {
	if k.more {
		return k.b.String() + "..."
	}
	return k.b.String()
}

// lastOutput is what the last probe that failed has said; empty: none has.
func lastOutput(h *container.Health) string {
	for _, r := range slices.Backward(h.Log) {
		if r.ExitCode != 0 {
			return strings.TrimSpace(r.Output)
		}
	}
	return ""
}
