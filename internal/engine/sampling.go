package engine

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/sample"
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
// the run that is going on. Without compare it only adds what Docker has no place for.
func (e *Engine) fromSamples(s *api.Stats, compare bool) bool {
	if e.deps.Sampler == nil {
		return false
	}
	before, last, err := e.deps.Sampler.Latest(s.ID)
	if err != nil || last.Seq == 0 || time.Since(last.Time) > sampleStale {
		return false
	}
	s.Porthole = sampleForm(before.Sample, last.Sample)
	if !compare || before.Seq == 0 || last.CPUUsage < before.CPUUsage {
		return false
	}
	fillCPUs(s, &before, &last)
	return true
}

// statsDetail is one reading of what samples have no room for, made by the first who asks and shared by all others.
type statsDetail struct {
	task Task
	seq  uint64 // of the sample that it belongs to
	read func() (*container.StatsResponse, error)
}

// sampledStats tells what the sampler has read, with the details of this moment.
func (e *Engine) sampledStats(c *ctr, before, now *sampler.Reading) (*api.Stats, error) {
	v := c.view()
	if v.pid() == 0 {
		return noStats(v), nil
	}
	shared, err := e.detailOf(c, v.task, now.Seq)
	var own *container.StatsResponse
	if err == nil {
		copied := *shared // what it points to is not changed
		own = &copied
	}
	s, err := statsOf(c, v, own, err)
	if err != nil || s.Read.IsZero() {
		return s, err
	}
	if before.CPUUsage > now.CPUUsage {
		before = &sampler.Reading{}
	}
	fillCPUs(s, before, now)
	s.Networks = interfacesForm(now)
	s.Porthole = sampleForm(before.Sample, now.Sample)
	return s, nil
}

func (e *Engine) detailOf(c *ctr, task Task, seq uint64) (*container.StatsResponse, error) {
	for {
		d := c.detail.Load()
		if d != nil && d.task == task && d.seq == seq {
			return d.read()
		}
		fresh := &statsDetail{task: task, seq: seq, read: sync.OnceValues(func() (*container.StatsResponse, error) { return e.readStats(task) })}
		if c.detail.CompareAndSwap(d, fresh) {
			return fresh.read()
		}
	}
}

// fillCPUs puts two readings, of which the first may be none, into s.
func fillCPUs(s *api.Stats, before, now *sampler.Reading) {
	if before.Seq > 0 {
		s.PreRead, s.PreCPUStats = before.Time, s.CPUStats
		fillCPU(&s.PreCPUStats, before)
	}
	s.Read = now.Time
	fillCPU(&s.CPUStats, now)
}

func fillCPU(to *container.CPUStats, r *sampler.Reading) {
	to.CPUUsage = container.CPUUsage{
		TotalUsage: r.CPUUsage, UsageInUsermode: r.CPUUser, UsageInKernelmode: r.CPUSystem, PercpuUsage: r.PerCPU,
	}
	to.ThrottlingData = container.ThrottlingData{
		Periods: r.CPUPeriods, ThrottledPeriods: r.CPUThrottledPeriods, ThrottledTime: r.CPUThrottled,
	}
	to.SystemUsage = r.HostCPU
}

// interfacesForm is nil in the host's network, whose counters are not the container's own.
func interfacesForm(r *sampler.Reading) map[string]container.NetworkStats {
	if r.Known&sample.KnownNetwork == 0 {
		return nil
	}
	out := make(map[string]container.NetworkStats, len(r.Interfaces))
	for _, i := range r.Interfaces {
		out[i.Name] = container.NetworkStats{
			RxBytes: i.RxBytes, RxPackets: i.RxPackets, RxErrors: i.RxErrors, RxDropped: i.RxDropped,
			TxBytes: i.TxBytes, TxPackets: i.TxPackets, TxErrors: i.TxErrors, TxDropped: i.TxDropped,
		}
	}
	return out
}
