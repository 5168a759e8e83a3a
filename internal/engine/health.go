package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

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
		if d == 0 {
			return fallback
		}
		return d
	}
	k.interval, k.timeout = or(h.Interval, probeInterval), or(h.Timeout, probeTimeout)
	k.startPeriod, k.startInterval = h.StartPeriod, or(h.StartInterval, probeStartInterval)
	if k.retries = h.Retries; k.retries == 0 {
		k.retries = probeRetries
	}
	return k, true
}

// startProbes begins to look after the health of a container that has just been started or adopted.
func (e *Engine) startProbes(c *ctr) {
	k, ok := healthCheck(c.view().Config)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(e.life)
	done := make(chan struct{})
	c.mu.Lock()
	c.probes = sync.OnceFunc(func() { cancel(); <-done })
	c.publish(func(v *view) { v.health = &container.Health{Status: container.Starting} })
	c.mu.Unlock()
	e.goWork(func() {
		defer close(done)
		e.probe(ctx, c, k)
	})
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

// probe looks at a container's health in intervals, until ctx ends. The first probe comes after one interval.
func (e *Engine) probe(ctx context.Context, c *ctr, k check) {
	began := c.view().Life.StartedAt
	timer := time.NewTimer(k.next(c.view().health, time.Since(began)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if c.view().status() == container.StateRunning {
			r := e.probeOnce(ctx, c, k)
			if ctx.Err() != nil {
				return
			}
			e.noteProbe(ctx, c, k, r, r.Start.Sub(began) < k.startPeriod)
		}
		timer.Reset(k.next(c.view().health, time.Since(began)))
	}
}

// next is how long it is to the next probe.
func (k check) next(h *container.Health, ran time.Duration) time.Duration {
	if h != nil && h.Status == container.Starting && ran < k.startPeriod {
		return k.startInterval
	}
	return k.interval
}

// noteProbe draws conclusions from one probe.
func (e *Engine) noteProbe(ctx context.Context, c *ctr, k check, r *container.HealthcheckResult, starting bool) {
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
	if before != after {
		e.emit(ctx, c.view(), events.Action(string(events.ActionHealthStatus)+": "+string(after)), nil)
	}
}

// probeOnce runs the check's command in the container.
func (e *Engine) probeOnce(ctx context.Context, c *ctr, k check) *container.HealthcheckResult {
	r := &container.HealthcheckResult{Start: time.Now()}
	code, output, err := e.runProbe(ctx, c, k)
	r.End = time.Now()
	r.ExitCode, r.Output = code, output
	if err != nil {
		r.ExitCode, r.Output = -1, err.Error()
		if output != "" && errors.Is(err, errProbeTimeout) {
			r.Output += ": " + output
		}
	}
	return r
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
	proc, err := e.startProbe(ctx, v, x, runtime.ExecOptions{ID: x.id, Process: process, GroupAdd: v.HostConfig.GroupAdd, Stdout: w, Stderr: w})
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
	if timedOut {
		return -1, kept.String(), fmt.Errorf("%w (%s)", errProbeTimeout, k.timeout)
	}
	code = proc.Exit().Code
	x.finish(code)
	e.emit(ctx, c.view(), events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": fmt.Sprint(code)})
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
