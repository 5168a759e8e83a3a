package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // makes the managers able to set device rules
	devices "github.com/opencontainers/cgroups/devices/config"
	v1 "github.com/opencontainers/cgroups/fs"
	v2 "github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Resources are the limits of a container, as the runtime specification has
// them. A nil pointer or a zero value leaves a limit as it is. Devices are an
// ordered list of rules; an empty one leaves the devices as they are.
type Resources = specs.LinuxResources

// UnavailableError says that a limit cannot be given because the host has no
// such controller, or has it without the file that this limit needs.
type UnavailableError struct {
	Controller string // as the kernel names it, for example "memory"
	Mode       Mode
	Limit      string // what was asked for; empty for anything that the controller does
}

// Error names the controller.
func (e *UnavailableError) Error() string {
	if e.Limit != "" {
		return fmt.Sprintf("the %s controller of %s cannot set %s", e.Controller, e.Mode, e.Limit)
	}
	return fmt.Sprintf("the %s controller is not available on this host (%s)", e.Controller, e.Mode)
}

// Set changes the limits on app.
//
// A limit that cannot be given is an [*UnavailableError] naming the controller.
func (g *Group) Set(r *Resources) ([]Warning, error) {
	if g.err != nil {
		return nil, g.err
	}
	warnings, err := g.set(r)
	if err != nil {
		return nil, fmt.Errorf("set limits of cgroup %q: %w", g.path, err)
	}
	return warnings, nil
}

func (g *Group) set(r *Resources) ([]Warning, error) {
	wanted := convert(r)
	var err error
	if g.tree.mode == V2 {
		err = g.setV2(r, wanted)
	} else {
		err = g.setV1(r, wanted)
	}
	if err != nil {
		return nil, err
	}
	return warnings(r), nil
}

// warnings tells of settings that kernels have given up and Docker passes over.
func warnings(r *Resources) []Warning {
	var list []Warning
	if m := r.Memory; m != nil && (m.Kernel != nil || m.KernelTCP != nil) { //nolint:staticcheck // told of because it is ignored
		list = append(list, "Kernel memory limits are not supported by current kernels. Limitation discarded.")
	}
	return list
}

// limiter sets the limits of one v1 controller.
type limiter struct {
	controller string
	wanted     func(*cgroups.Resources) bool
	set        func(dir string, r *cgroups.Resources) error
}

// limiters are in the order in which the limits are set.
func limiters() []limiter {
	return []limiter{
		{"cpuset", wantsCpuset, (&v1.CpusetGroup{}).Set},
		{"memory", wantsMemory, (&v1.MemoryGroup{}).Set},
		{"cpu", wantsCPU, (&v1.CpuGroup{}).Set},
		{"pids", wantsPids, (&v1.PidsGroup{}).Set},
		{"blkio", wantsIO, (&v1.BlkioGroup{}).Set},
		{"hugetlb", func(r *cgroups.Resources) bool { return len(r.HugetlbLimit) > 0 }, (&v1.HugetlbGroup{}).Set},
		{"net_cls", func(r *cgroups.Resources) bool { return r.NetClsClassid != 0 }, (&v1.NetClsGroup{}).Set},
		{"net_prio", func(r *cgroups.Resources) bool { return len(r.NetPrioIfpriomap) > 0 }, (&v1.NetPrioGroup{}).Set},
		{"rdma", func(r *cgroups.Resources) bool { return len(r.Rdma) > 0 }, (&v1.RdmaGroup{}).Set},
	}
}

func (g *Group) setV1(r *Resources, wanted *cgroups.Resources) error {
	if len(r.Unified) > 0 {
		return &UnavailableError{Controller: "unified", Mode: g.tree.mode}
	}
	if err := g.setDevicesV1(r.Devices); err != nil {
		return err
	}
	for _, l := range limiters() {
		if !l.wanted(wanted) {
			continue
		}
		root, ok := g.tree.controller(l.controller)
		if !ok {
			return &UnavailableError{Controller: l.controller, Mode: g.tree.mode}
		}
		if err := l.set(g.dirV1(root, App), wanted); err != nil {
			return g.limitError(l.controller, err)
		}
	}
	return nil
}

func (g *Group) setV2(r *Resources, wanted *cgroups.Resources) error {
	if err := g.checkV2(r, wanted); err != nil {
		return err
	}
	manager, err := v2.NewManager(&cgroups.Cgroup{Resources: wanted}, g.Dir(App))
	if err != nil {
		return err
	}
	if err := manager.Set(wanted); err != nil {
		return g.limitError(fileController(err), err)
	}
	return nil
}

// checkV2 finds what v2 cannot give before anything is set.
func (g *Group) checkV2(r *Resources, wanted *cgroups.Resources) error {
	text, err := cgroups.ReadFile(g.Dir(App), "cgroup.controllers")
	if err != nil {
		return err
	}
	available := strings.Fields(text)
	for controller, needed := range map[string]bool{
		"memory":  wantsMemory(wanted) || wanted.MemorySwap != 0,
		"cpu":     wantsCPU(wanted),
		"cpuset":  wantsCpuset(wanted),
		"pids":    wantsPids(wanted),
		"io":      wantsIO(wanted),
		"hugetlb": len(wanted.HugetlbLimit) > 0,
		"rdma":    len(wanted.Rdma) > 0,
	} {
		if needed && !slices.Contains(available, controller) {
			return &UnavailableError{Controller: controller, Mode: V2}
		}
	}
	return onlyV1(r)
}

// onlyV1 refuses what v2 has no file for.
func onlyV1(r *Resources) error {
	missing := func(controller, limit string) error {
		return &UnavailableError{Controller: controller, Mode: V2, Limit: limit}
	}
	if m := r.Memory; m != nil {
		if m.Swappiness != nil {
			return missing("memory", "swappiness")
		}
		if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
			return missing("memory", "the OOM killer off")
		}
	}
	if c := r.CPU; c != nil && (value(c.RealtimePeriod) != 0 || value(c.RealtimeRuntime) != 0) {
		return missing("cpu", "a realtime budget")
	}
	if n := r.Network; n != nil && n.ClassID != nil {
		return missing("net_cls", "a class id")
	}
	if n := r.Network; n != nil && len(n.Priorities) > 0 {
		return missing("net_prio", "priorities")
	}
	return nil
}

// limitError makes an UnavailableError of a file that is not there, and names
// the controller otherwise.
func (g *Group) limitError(controller string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) {
		return &UnavailableError{Controller: controller, Mode: g.tree.mode, Limit: filepath.Base(path.Path)}
	}
	return fmt.Errorf("%s controller: %w", controller, err)
}

// fileController takes the controller from the name of the v2 file that an
// error is about: memory.max belongs to memory.
func fileController(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		controller, _, _ := strings.Cut(filepath.Base(path.Path), ".")
		return controller
	}
	return "cgroup"
}

func wantsCpuset(r *cgroups.Resources) bool { return r.CpusetCpus != "" || r.CpusetMems != "" }

func wantsMemory(r *cgroups.Resources) bool {
	return r.Memory != 0 || r.MemoryReservation != 0 || r.MemorySwap != 0 || r.OomKillDisable || r.MemorySwappiness != nil
}

func wantsCPU(r *cgroups.Resources) bool {
	return r.CpuShares != 0 || r.CpuQuota != 0 || r.CpuPeriod != 0 || r.CpuBurst != nil ||
		r.CpuRtPeriod != 0 || r.CpuRtRuntime != 0 || r.CPUIdle != nil
}

func wantsPids(r *cgroups.Resources) bool { return r.PidsLimit != nil }

func wantsIO(r *cgroups.Resources) bool {
	return r.BlkioWeight != 0 || r.BlkioLeafWeight != 0 || len(r.BlkioWeightDevice) > 0 ||
		len(r.BlkioThrottleReadBpsDevice) > 0 || len(r.BlkioThrottleWriteBpsDevice) > 0 ||
		len(r.BlkioThrottleReadIOPSDevice) > 0 || len(r.BlkioThrottleWriteIOPSDevice) > 0
}

// convert brings limits from the specification's form into the library's.
func convert(r *Resources) *cgroups.Resources {
	out := &cgroups.Resources{SkipDevices: len(r.Devices) == 0, Unified: r.Unified}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, convertDevice(d))
	}
	if r.Memory != nil {
		convertMemory(out, r.Memory)
	}
	if r.CPU != nil {
		convertCPU(out, r.CPU)
	}
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	if r.BlockIO != nil {
		convertIO(out, r.BlockIO)
	}
	for _, h := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	if n := r.Network; n != nil {
		out.NetClsClassid = value(n.ClassID)
		for _, p := range n.Priorities {
			out.NetPrioIfpriomap = append(out.NetPrioIfpriomap, &cgroups.IfPrioMap{Interface: p.Name, Priority: int64(p.Priority)})
		}
	}
	for name, limit := range r.Rdma {
		if out.Rdma == nil {
			out.Rdma = make(map[string]cgroups.LinuxRdma)
		}
		out.Rdma[name] = cgroups.LinuxRdma{HcaHandles: limit.HcaHandles, HcaObjects: limit.HcaObjects}
	}
	return out
}

func convertMemory(out *cgroups.Resources, m *specs.LinuxMemory) {
	out.Memory = value(m.Limit)
	out.MemoryReservation = value(m.Reservation)
	out.MemorySwap = value(m.Swap)
	out.MemorySwappiness = m.Swappiness
	out.OomKillDisable = value(m.DisableOOMKiller)
	out.MemoryCheckBeforeUpdate = value(m.CheckBeforeUpdate)
}

func convertCPU(out *cgroups.Resources, c *specs.LinuxCPU) {
	out.CpuShares = value(c.Shares)
	out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
	out.CpuQuota = value(c.Quota)
	out.CpuPeriod = value(c.Period)
	out.CpuBurst = c.Burst
	out.CpuRtRuntime = value(c.RealtimeRuntime)
	out.CpuRtPeriod = value(c.RealtimePeriod)
	out.CpusetCpus = c.Cpus
	out.CpusetMems = c.Mems
	out.CPUIdle = c.Idle
}

func convertIO(out *cgroups.Resources, io *specs.LinuxBlockIO) {
	out.BlkioWeight = value(io.Weight)
	out.BlkioLeafWeight = value(io.LeafWeight)
	for _, d := range io.WeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice,
			cgroups.NewWeightDevice(d.Major, d.Minor, value(d.Weight), value(d.LeafWeight)))
	}
	out.BlkioThrottleReadBpsDevice = convertThrottles(io.ThrottleReadBpsDevice)
	out.BlkioThrottleWriteBpsDevice = convertThrottles(io.ThrottleWriteBpsDevice)
	out.BlkioThrottleReadIOPSDevice = convertThrottles(io.ThrottleReadIOPSDevice)
	out.BlkioThrottleWriteIOPSDevice = convertThrottles(io.ThrottleWriteIOPSDevice)
}

func convertThrottles(list []specs.LinuxThrottleDevice) []*cgroups.ThrottleDevice {
	var out []*cgroups.ThrottleDevice
	for _, d := range list {
		out = append(out, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
	}
	return out
}

func convertDevice(d specs.LinuxDeviceCgroup) *devices.Rule {
	rule := &devices.Rule{
		Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
		Permissions: devices.Permissions(d.Access), Allow: d.Allow,
	}
	if d.Type != "" {
		rule.Type = devices.Type(d.Type[0])
	}
	if d.Major != nil {
		rule.Major = *d.Major
	}
	if d.Minor != nil {
		rule.Minor = *d.Minor
	}
	return rule
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
