package engine

import (
	"errors"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/record/sampler"
)

// sampleStale is how old the last sample may be to be shown as what is so now.
const sampleStale = 5 * time.Second

// startSampling begins to sample a run. That nobody can see later what it used is no reason to refuse it.
func (e *Engine) startSampling(v *view, task Task) {
	if e.deps.Sampler == nil {
		return
	}
	err := func() error {
		var ns *os.File
		if string(v.HostConfig.NetworkMode) != mobynet.NetworkHost {
			var err error
			if ns, err = task.NetNS(); err != nil {
				return err
			}
			defer ns.Close()
		}
		source, err := task.Source(ns)
		if err != nil {
			return err
		}
		return e.deps.Sampler.Add(v.ID, e.dir(v.ID, "samples"), source)
	}()
	select {
	case <-task.Done(): // it was too short to see anything of it
		return
	default:
	}
	if err != nil {
		e.log.Warn("container is not sampled", "container", v.ID, "err", err)
	}
}

// stopSampling ends what startSampling began, and with it the hold on the network namespace.
func (e *Engine) stopSampling(id string) {
	if e.deps.Sampler == nil {
		return
	}
	if err := e.deps.Sampler.Remove(id); err != nil && !errors.Is(err, sampler.ErrUnknown) {
		e.log.Warn("samples were not closed", "container", id, "err", err)
	}
}

// fromSamples puts the CPU time of the last two samples into s, so that they compare, and tells whether there are two of
// the run that is going on.
func (e *Engine) fromSamples(s *container.StatsResponse) bool {
	if e.deps.Sampler == nil {
		return false
	}
	before, last, err := e.deps.Sampler.Latest(s.ID)
	if err != nil || before.Seq == 0 || time.Since(last.Time) > sampleStale || last.CPUUsage < before.CPUUsage {
		return false
	}
	s.PreRead, s.PreCPUStats = before.Time, s.CPUStats
	s.PreCPUStats.CPUUsage.PercpuUsage = nil // samples have the sum alone
	fillCPU(&s.PreCPUStats, &before)
	s.Read = last.Time
	fillCPU(&s.CPUStats, &last)
	return true
}

func fillCPU(to *container.CPUStats, r *sampler.Reading) {
	to.CPUUsage.TotalUsage, to.CPUUsage.UsageInUsermode, to.CPUUsage.UsageInKernelmode = r.CPUUsage, r.CPUUser, r.CPUSystem
	to.ThrottlingData = container.ThrottlingData{
		Periods: r.CPUPeriods, ThrottledPeriods: r.CPUThrottledPeriods, ThrottledTime: r.CPUThrottled,
	}
	to.SystemUsage = r.HostCPU
}
