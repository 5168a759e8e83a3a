package engine

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/sample"
)

// SamplesOptions select what [Engine.ContainerSamples] reads.
type SamplesOptions struct {
	Since, Until time.Time // zero: from the first, to the last
	Last         int       // the last of those only; 0: all
	Follow       bool      // go on with those that come, while the container runs
}

// ContainerSamples calls fn with the samples that are kept of a container, in order, also when it does not run any more.
// Following ends with the run, or when ctx ends.
func (e *Engine) ContainerSamples(ctx context.Context, ref string, o SamplesOptions, fn func(*api.Sample) error) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	list, err := readSamples(e.dir(c.id, "samples"), o)
	if err != nil {
		return err
	}
	// The one before the first that is wanted is there to compare with.
	wanted := list
	for len(wanted) > 0 && wanted[0].Time.Before(o.Since) {
		wanted = wanted[1:]
	}
	if o.Last > 0 {
		wanted = wanted[max(0, len(wanted)-o.Last):]
	}
	for i := len(list) - len(wanted); i < len(list); i++ {
		if err := fn(sampleForm(list[max(i-1, 0)], list[i])); err != nil {
			return err
		}
	}
	if !o.Follow || e.deps.Sampler == nil {
		return nil
	}
	last := time.Time{}
	if len(list) > 0 {
		last = list[len(list)-1].Time
	}
	return e.followSamples(ctx, c, last, o.Until, fn)
}

// samplesBefore is how much earlier than asked for is read, for a sample to compare the first one with.
const samplesBefore = 5 * time.Second

func readSamples(path string, o SamplesOptions) ([]sample.Sample, error) {
	ring, err := sample.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it never ran
	}
	if err != nil {
		return nil, err
	}
	defer ring.Close()
	from := o.Since
	if !from.IsZero() {
		from = from.Add(-samplesBefore)
	}
	return ring.Range(from, o.Until)
}

// followSamples goes on behind the sample that was taken at last.
func (e *Engine) followSamples(ctx context.Context, c *ctr, last, until time.Time, fn func(*api.Sample) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.life, func() { cancel(errShutdown) })()
	for seq := uint64(0); ; {
		before, now, err := e.deps.Sampler.Next(ctx, c.id, seq)
		if err != nil {
			return nil // the run has ended, or nobody waits any more
		}
		seq = now.Seq
		// One that is much older is new: the clock was set back.
		if ahead := last.Sub(now.Time); ahead >= 0 && ahead < sampleStale {
			continue
		}
		if !until.IsZero() && now.Time.After(until) {
			return nil
		}
		if err := fn(sampleForm(before.Sample, now.Sample)); err != nil {
			return err
		}
	}
}

// SampleForms brings samples of one container, in the order in which they were taken, into the API's form.
func SampleForms(list []sample.Sample) []*api.Sample {
	var out []*api.Sample
	var before sample.Sample
	for _, s := range list {
		out = append(out, sampleForm(before, s))
		before = s
	}
	return out
}

// sampleForm brings a sample into the API's form, with the rates since the one before.
func sampleForm(before, s sample.Sample) *api.Sample {
	known := func(k sample.Known) bool { return s.Known&k != 0 }
	out := &api.Sample{Time: s.Time, Rate: rateForm(&before, &s)}
	if known(sample.KnownCPU) {
		out.CPU = &api.SampleCPU{Usage: s.CPUUsage, User: s.CPUUser, System: s.CPUSystem, Host: s.HostCPU}
		if known(sample.KnownThrottling) {
			out.CPU.Throttling = &api.SampleThrottling{Periods: s.CPUPeriods, ThrottledPeriods: s.CPUThrottledPeriods, Throttled: s.CPUThrottled}
		}
	}
	if known(sample.KnownMemory) {
		out.Memory = memoryForm(&s)
	}
	if known(sample.KnownIO) {
		out.IO = &api.SampleIO{ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes, ReadOps: s.ReadOps, WriteOps: s.WriteOps}
	}
	if known(sample.KnownNetwork) {
		out.Network = &api.SampleNetwork{
			RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
			TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
		}
	}
	if known(sample.KnownPids) {
		out.Pids = &s.Pids
	}
	if known(sample.KnownOOMKills) {
		out.OOMKills = &s.OOMKills
	}
	if known(sample.KnownCPUPressure | sample.KnownMemoryPressure | sample.KnownIOPressure) {
		out.Pressure = &api.SamplePressure{}
	}
	if known(sample.KnownCPUPressure) {
		out.Pressure.CPU = &api.PressureTotals{Some: s.CPUPressureSome, Full: s.CPUPressureFull}
	}
	if known(sample.KnownMemoryPressure) {
		out.Pressure.Memory = &api.PressureTotals{Some: s.MemoryPressureSome, Full: s.MemoryPressureFull}
	}
	if known(sample.KnownIOPressure) {
		out.Pressure.IO = &api.PressureTotals{Some: s.IOPressureSome, Full: s.IOPressureFull}
	}
	return out
}

func memoryForm(s *sample.Sample) *api.SampleMemory {
	m := &api.SampleMemory{
		Usage: s.MemoryUsage, WorkingSet: s.WorkingSet(), Anon: s.MemoryAnon, File: s.MemoryFile, Swap: s.MemorySwap,
		InactiveFile: s.MemoryInactiveFile, Faults: s.PageFaults, MajorFaults: s.MajorPageFaults,
	}
	if s.MemoryLimit != math.MaxUint64 {
		m.Limit = &s.MemoryLimit
	}
	if s.Known&sample.KnownKernelMemory != 0 {
		m.Kernel = &s.MemoryKernel
	}
	return m
}

// rateForm returns nil if the two tell nothing: they are the same, or the container was started between them.
func rateForm(before, s *sample.Sample) *api.SampleRate {
	r, ok := sample.Rates(before, s)
	if !ok || before.Time.IsZero() {
		return nil
	}
	return &api.SampleRate{
		Seconds: s.Time.Sub(before.Time).Seconds(), CPU: r.CPU, Throttled: r.Throttled,
		ReadBytes: r.ReadBytes, WriteBytes: r.WriteBytes, RxBytes: r.RxBytes, TxBytes: r.TxBytes,
		Faults: r.PageFaults, MajorFaults: r.MajorPageFaults,
		CPUPressure: r.CPUPressure, MemoryPressure: r.MemoryPressure, IOPressure: r.IOPressure,
	}
}
