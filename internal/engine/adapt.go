package engine

import (
	"context"
	"math"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/record/sampler"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// NewRuntime makes the isolation runtime fit [Deps].
func NewRuntime(r *runtime.Runtime) Runtime { return runtimeAdapter{r} }

type runtimeAdapter struct{ r *runtime.Runtime }

func (a runtimeAdapter) Create(ctx context.Context, b Bundle) (Task, error) {
	b.join()
	c, err := a.r.Create(ctx, b.Bundle)
	if err != nil {
		return nil, err
	}
	return taskAdapter{c}, nil
}

// join puts the runtime's own containers in the place of tasks.
func (b *Bundle) join() {
	b.Join = map[specs.LinuxNamespaceType]*runtime.Container{}
	for typ, task := range b.JoinTasks {
		if t, ok := task.(taskAdapter); ok {
			b.Join[typ] = t.Container
		}
	}
}

// Plan: see planner.
func (a runtimeAdapter) Plan(b Bundle) (*plan.Plan, error) {
	b.join()
	return a.r.Plan(b.Bundle)
}

// Expect and Forget: see expecter.
func (a runtimeAdapter) Expect(b Bundle) {
	b.Join = map[specs.LinuxNamespaceType]*runtime.Container{} // as Create has it
	a.r.Expect(b.Bundle)
}

func (a runtimeAdapter) Forget(id string) { a.r.Forget(id) }

func (a runtimeAdapter) Load(ctx context.Context, id, stateDir, logDir string) (Task, error) {
	c, err := a.r.Load(ctx, id, stateDir, logDir)
	if err != nil {
		return nil, err
	}
	return taskAdapter{c}, nil
}

func (a runtimeAdapter) Alive(id string) bool { return a.r.Alive(id) }

func (a runtimeAdapter) IDs(id string) (runtime.IDRange, error) { return a.r.IDs(id) }

func (a runtimeAdapter) Discard(ctx context.Context, id string) error { return a.r.Discard(ctx, id) }

func (a runtimeAdapter) ReadExit(stateDir string) (Exit, error) { return runtime.ReadExit(stateDir) }

func (a runtimeAdapter) ReadBegun(stateDir string) (run int, at time.Time, err error) {
	return runtime.ReadBegun(stateDir)
}

// taskAdapter is a runtime's container as a Task.
type taskAdapter struct{ *runtime.Container }

func (t taskAdapter) Exec(ctx context.Context, o runtime.ExecOptions) (Process, error) {
	p, err := t.Container.Exec(ctx, o)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (t taskAdapter) Inherited() []inheritedExec {
	var list []inheritedExec
	for _, x := range t.Container.Inherited() {
		own := inheritedExec{id: x.ID, args: x.Args, note: x.Note, exit: x.Exit}
		if x.Process != nil {
			own.proc = x.Process
		}
		list = append(list, own)
	}
	return list
}

func (t taskAdapter) Stats() (*container.StatsResponse, error) {
	s, err := t.Cgroup().Stats()
	if err != nil {
		return nil, err
	}
	return fromCgroup(s), nil
}

func (t taskAdapter) Source(netns *os.File) (sampler.Source, error) {
	return sampler.OpenSource(t.Cgroup(), netns)
}

func (t taskAdapter) SetLimits(r *specs.LinuxResources) (undo func() error, warnings []string, err error) {
	undo, list, err := t.Container.SetLimits(r)
	for _, w := range list {
		warnings = append(warnings, string(w))
	}
	return undo, warnings, err
}

// fromCgroup brings statistics into the API's form.
func fromCgroup(s *cgroup.Stats) *container.StatsResponse {
	r := &container.StatsResponse{OSType: "linux", Read: s.Time}
	r.CPUStats.CPUUsage = container.CPUUsage{
		TotalUsage: s.CPU.Usage, UsageInUsermode: s.CPU.User, UsageInKernelmode: s.CPU.System, PercpuUsage: s.CPU.PerCPU,
	}
	r.CPUStats.ThrottlingData = container.ThrottlingData{Periods: s.CPU.Periods, ThrottledPeriods: s.CPU.ThrottledPeriods, ThrottledTime: s.CPU.Throttled}
	r.MemoryStats = container.MemoryStats{Usage: s.Memory.Usage, MaxUsage: s.Memory.MaxUsage, Stats: s.Memory.Detail, Failcnt: s.Memory.Failures, Limit: s.Memory.Limit}
	r.PidsStats = container.PidsStats{Current: s.Pids.Current, Limit: s.Pids.Limit}
	if r.PidsStats.Limit == 0 {
		r.PidsStats.Limit = math.MaxUint64 // Docker's way to say "none"
	}
	r.BlkioStats.IoServiceBytesRecursive = blkio(s.IO.ServiceBytes)
	r.BlkioStats.IoServicedRecursive = blkio(s.IO.Serviced)
	if s.Mode != cgroup.V2 {
		emptyLists(&r.BlkioStats)
	}
	return r
}

// emptyLists makes of the lists that are nil those without entries, as Docker does on v1.
func emptyLists(b *container.BlkioStats) {
	for _, list := range []*[]container.BlkioStatEntry{
		&b.IoServiceBytesRecursive, &b.IoServicedRecursive, &b.IoQueuedRecursive, &b.IoServiceTimeRecursive,
		&b.IoWaitTimeRecursive, &b.IoMergedRecursive, &b.IoTimeRecursive, &b.SectorsRecursive,
	} {
		if *list == nil {
			*list = []container.BlkioStatEntry{}
		}
	}
}

func blkio(in []cgroup.IOEntry) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for _, e := range in {
		out = append(out, container.BlkioStatEntry(e))
	}
	return out
}

var (
	_ Task    = taskAdapter{}
	_ Process = (*runtime.Process)(nil)
)
