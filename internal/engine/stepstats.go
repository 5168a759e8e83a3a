package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/step"
)

// stepStats is [Engine.ContainerStats] of a step that runs. Nobody samples steps, so its numbers are read when they are
// asked for. A stream ends with the step.
func (e *Engine) stepStats(ctx context.Context, r *runningStep, stream, oneShot bool, fn func(*api.Stats) error) error {
	now, err := e.sampleStep(r)
	if err != nil {
		return err
	}
	interval := statsInterval
	if !stream {
		if oneShot {
			return fn(now)
		}
		interval = statsMoment
	}
	for last := now; ; last = now {
		if stream {
			if err := fn(last); err != nil {
				return err
			}
		}
		select {
		case <-time.After(interval):
		case <-r.task.Done():
			if stream {
				return nil
			}
			return notFound("No such container: %s", r.step.ID)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.life.Done():
			return nil
		}
		if now, err = e.sampleStep(r); err != nil {
			return err
		}
		compareStats(last, now)
		if !stream {
			return fn(now)
		}
	}
}

// sampleStep reads what a step has used so far.
func (e *Engine) sampleStep(r *runningStep) (*api.Stats, error) {
	s, err := e.readStats(r.task)
	if err == nil {
		s.CPUStats.SystemUsage, err = hostCPU("/proc/stat")
	}
	if err == nil && r.step.Network != step.NetworkHost {
		s.Networks, err = netStatsOf(r.task.Pid())
	}
	if err != nil {
		select {
		case <-r.task.Done():
			return &api.Stats{StatsResponse: container.StatsResponse{ID: r.step.ID, Name: r.step.Name, OSType: "linux"}}, nil
		default:
			return nil, fmt.Errorf("read statistics of step %s: %w", r.step.ID, err)
		}
	}
	s.ID, s.Name, s.OSType = r.step.ID, r.step.Name, "linux"
	return &api.Stats{StatsResponse: *s}, nil
}
