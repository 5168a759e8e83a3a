package engine

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/runtime/spec"
)

// ContainerUpdate changes limits and restart policy, of a running container at once.
func (e *Engine) ContainerUpdate(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error) {
	c, done, err := e.operate(ctx, "update", ref)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	defer done()
	warnings, err := spec.ValidateUpdate(e.deps.Host, &u.Resources)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	if u.RestartPolicy.Name != "" {
		if err := container.ValidateRestartPolicy(u.RestartPolicy); err != nil {
			return container.UpdateResponse{}, err
		}
	}
	release, err := c.turn.take(ctx, "update")
	if err != nil {
		return container.UpdateResponse{}, err
	}
	defer release()
	v := c.view()
	if v.removing || v.status() == container.StateDead {
		return container.UpdateResponse{}, conflict("container is marked for removal and cannot be \"update\"")
	}
	if v.task == nil && v.unadopted != nil {
		return container.UpdateResponse{}, errUnadopted(v) // it would go on with its old limits
	}
	h, err := updated(v.HostConfig, u)
	if err != nil {
		return container.UpdateResponse{}, fmt.Errorf("Cannot update container %s: %w", c.id, err)
	}
	undo, more, err := e.applyLimits(v, h, &u.Resources)
	if err != nil {
		return container.UpdateResponse{}, fmt.Errorf("Cannot update container %s: %w", c.id, err)
	}
	warnings = append(warnings, more...)
	err = e.saveOrUndo(ctx, c, func(w *view) { w.HostConfig, w.document = h, nil }, func(w *view) { w.HostConfig = v.HostConfig })
	if err != nil {
		if back := undo(); back != nil {
			e.log.Error("limits were not set back", "container", c.id, "err", back)
		}
		return container.UpdateResponse{}, err
	}
	e.emit(ctx, c.view(), events.ActionUpdate, nil)
	return container.UpdateResponse{Warnings: append([]string{}, warnings...)}, nil
}

// applyLimits sets the limits of a container that runs, all of them or none. The undo is never nil without an error.
func (e *Engine) applyLimits(v *view, h *container.HostConfig, u *container.Resources) (undo func() error, warnings []string, err error) {
	if v.task == nil || !v.live() {
		return func() error { return nil }, nil, nil
	}
	limits, err := spec.Limits(h.Resources)
	if err != nil {
		return nil, nil, err
	}
	if u.MemorySwap == -1 && e.deps.Host.Cgroup.Swap {
		// A new container has no limit of swap unless it is given one; here there may be one to lift.
		if limits.Memory == nil {
			limits.Memory = &specs.LinuxMemory{}
		}
		unlimited := int64(-1)
		limits.Memory.Swap = &unlimited
	}
	if weight := u.BlkioWeight; weight != 0 {
		limits.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
	}
	return v.task.SetLimits(limits)
}

// updated is a host configuration with what an update gives. Zero values mean: leave it.
func updated(old *container.HostConfig, u container.UpdateConfig) (*container.HostConfig, error) {
	h := *old
	r, n := &h.Resources, u.Resources
	if n.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0) {
		return nil, conflict("Nano CPUs cannot be updated as CPU Period or Quota has already been set")
	}
	if (n.CPUPeriod > 0 || n.CPUQuota > 0) && r.NanoCPUs > 0 {
		return nil, conflict("CPU Period and Quota cannot be updated as NanoCPUs has already been set")
	}
	if n.Memory > 0 && n.MemorySwap == 0 && r.MemorySwap > 0 && n.Memory > r.MemorySwap {
		return nil, conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	for _, f := range []struct{ to, from *int64 }{
		{&r.CPUShares, &n.CPUShares},
		{&r.Memory, &n.Memory},
		{&r.NanoCPUs, &n.NanoCPUs},
		{&r.CPUPeriod, &n.CPUPeriod},
		{&r.CPUQuota, &n.CPUQuota},
		{&r.CPURealtimePeriod, &n.CPURealtimePeriod},
		{&r.CPURealtimeRuntime, &n.CPURealtimeRuntime},
		{&r.MemoryReservation, &n.MemoryReservation},
		{&r.MemorySwap, &n.MemorySwap},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ to, from *string }{{&r.CpusetCpus, &n.CpusetCpus}, {&r.CpusetMems, &n.CpusetMems}} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if n.BlkioWeight != 0 {
		r.BlkioWeight = n.BlkioWeight
	}
	if n.PidsLimit != nil {
		r.PidsLimit = n.PidsLimit
	}
	if u.RestartPolicy.Name != "" {
		if h.AutoRemove && !u.RestartPolicy.IsNone() {
			return nil, conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		h.RestartPolicy = u.RestartPolicy
	}
	return &h, nil
}
