package main

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime"
)

// tasks gives the engine the runtime in the shape that it asks for.
type tasks struct{ *runtime.Runtime }

// task is one of the runtime's containers.
type task struct{ *runtime.Container }

func (t tasks) Create(ctx context.Context, b engine.Bundle) (engine.Task, error) {
	b.Join = make(map[specs.LinuxNamespaceType]*runtime.Container, len(b.JoinTasks))
	for kind, other := range b.JoinTasks {
		joined, ok := other.(task)
		if !ok {
			return nil, fmt.Errorf("join %s namespace of a %T", kind, other)
		}
		b.Join[kind] = joined.Container
	}
	c, err := t.Runtime.Create(ctx, b.Bundle)
	if err != nil {
		return nil, err
	}
	return task{c}, nil
}

func (t tasks) Load(ctx context.Context, id, stateDir, logDir string) (engine.Task, error) {
	c, err := t.Runtime.Load(ctx, id, stateDir, logDir)
	if err != nil {
		return nil, err
	}
	return task{c}, nil
}

func (tasks) ReadExit(stateDir string) (engine.Exit, error) { return runtime.ReadExit(stateDir) }

func (t task) Exec(ctx context.Context, o runtime.ExecOptions) (engine.Process, error) {
	p, err := t.Container.Exec(ctx, o)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Pids lists the container's processes, those of tools left out.
func (t task) Pids() ([]int, error) { return t.Cgroup().Pids() }

// Stats reads the container's cgroup into the API's form.
func (t task) Stats() (*container.StatsResponse, error) {
	s, err := t.Cgroup().Stats()
	if err != nil {
		return nil, err
	}
	return statsForm(s), nil
}

// statsForm puts statistics of a cgroup into the API's form.
func statsForm(s *cgroup.Stats) *container.StatsResponse {
	out := &container.StatsResponse{Read: s.Time}
	out.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: s.CPU.Usage, PercpuUsage: s.CPU.PerCPU,
			UsageInKernelmode: s.CPU.System, UsageInUsermode: s.CPU.User,
		},
		ThrottlingData: container.ThrottlingData{
			Periods: s.CPU.Periods, ThrottledPeriods: s.CPU.ThrottledPeriods, ThrottledTime: s.CPU.Throttled,
		},
	}
	out.MemoryStats = container.MemoryStats{
		Usage: s.Memory.Usage, MaxUsage: s.Memory.MaxUsage, Limit: s.Memory.Limit,
		Failcnt: s.Memory.Failures, Stats: s.Memory.Detail,
	}
	out.PidsStats = container.PidsStats{Current: s.Pids.Current, Limit: s.Pids.Limit}
	out.BlkioStats = container.BlkioStats{
		IoServiceBytesRecursive: blkioForm(s.IO.ServiceBytes),
		IoServicedRecursive:     blkioForm(s.IO.Serviced),
	}
	return out
}

func blkioForm(list []cgroup.IOEntry) []container.BlkioStatEntry {
	out := make([]container.BlkioStatEntry, len(list))
	for i, e := range list {
		out[i] = container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value}
	}
	return out
}
