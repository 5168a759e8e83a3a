package spec

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func (b *builder) resources() error {
	io, err := b.blockIO()
	if err != nil {
		return err
	}
	r := b.spec.Linux.Resources
	r.BlockIO = io
	limits, err := Limits(b.HostConfig.Resources)
	if err != nil {
		return err
	}
	r.Memory, r.CPU, r.Pids = limits.Memory, limits.CPU, limits.Pids
	return nil
}

// Limits returns the limits of a request that need no look at the host: all but
// those on devices. They are what `update` can change.
func Limits(r container.Resources) (*specs.LinuxResources, error) {
	if r.CPUShares < 0 {
		return nil, invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	out := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r)}
	if r.PidsLimit != nil {
		limit := *r.PidsLimit
		if limit <= 0 {
			limit = -1 // the runtime's word for none
		}
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return out, nil
}

func memory(r container.Resources) *specs.LinuxMemory {
	m := specs.LinuxMemory{
		Limit:            positive(r.Memory),
		Reservation:      positive(r.MemoryReservation),
		Swap:             positive(r.MemorySwap),
		DisableOOMKiller: r.OomKillDisable,
	}
	if r.MemorySwappiness != nil {
		swappiness := uint64(*r.MemorySwappiness)
		m.Swappiness = &swappiness
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func cpu(r container.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{
		Shares:          set(uint64(r.CPUShares)),
		Cpus:            r.CpusetCpus,
		Mems:            r.CpusetMems,
		Period:          set(uint64(r.CPUPeriod)),
		Quota:           set(r.CPUQuota),
		RealtimePeriod:  set(uint64(r.CPURealtimePeriod)),
		RealtimeRuntime: set(r.CPURealtimeRuntime),
	}
	if r.NanoCPUs > 0 {
		const period = 100_000 // microseconds
		c.Period = cmp.Or(c.Period, set[uint64](period))
		c.Quota = cmp.Or(c.Quota, set(r.NanoCPUs*period/1e9))
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

// set returns a pointer to v, or nil for zero, which stands for "not asked for".
func set[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func positive(v int64) *int64 {
	if v <= 0 {
		return nil
	}
	return &v
}

func (b *builder) blockIO() (*specs.LinuxBlockIO, error) {
	r := b.HostConfig.Resources
	io := &specs.LinuxBlockIO{Weight: set(r.BlkioWeight)}
	for _, d := range r.BlkioWeightDevice {
		device, err := b.oneDevice(d.Path)
		if err != nil {
			return nil, err
		}
		weight := d.Weight
		entry := specs.LinuxWeightDevice{Weight: &weight}
		entry.Major, entry.Minor = device.Major, device.Minor
		io.WeightDevice = append(io.WeightDevice, entry)
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &io.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &io.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &io.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.from {
			device, err := b.oneDevice(d.Path)
			if err != nil {
				return nil, err
			}
			entry := specs.LinuxThrottleDevice{Rate: d.Rate}
			entry.Major, entry.Minor = device.Major, device.Minor
			*t.to = append(*t.to, entry)
		}
	}
	return io, nil
}

func (b *builder) oneDevice(path string) (specs.LinuxDevice, error) {
	list, err := b.Host.Lookup.Devices(path)
	if err != nil {
		return specs.LinuxDevice{}, err
	}
	if len(list) != 1 || list[0].Path != "" {
		return specs.LinuxDevice{}, invalid("%s is not a device", path)
	}
	return list[0], nil
}

// devices lists the device nodes that the container gets besides the usual
// ones, and the rules of what it may do with any.
func (b *builder) devices() error {
	hc, linux := b.HostConfig, b.spec.Linux
	for _, request := range hc.DeviceRequests {
		// No driver for GPUs and the like is built in.
		return invalid("could not select device driver %q with capabilities: %v", request.Driver, request.Capabilities)
	}
	rules := defaultDeviceRules()
	if hc.Privileged {
		all, err := b.Host.Lookup.AllDevices()
		if err != nil {
			return err
		}
		linux.Devices = all
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	for _, mapping := range hc.Devices {
		if hc.Privileged && mapping.PathOnHost == mapping.PathInContainer {
			continue // it is there already
		}
		found, err := b.mappedDevices(mapping)
		if err != nil {
			return err
		}
		linux.Devices = append(linux.Devices, found...)
		if !hc.Privileged {
			for _, d := range found {
				rules = append(rules, deviceRule(true, d.Type, d.Major, d.Minor, mapping.CgroupPermissions))
			}
		}
	}
	if !hc.Privileged {
		for _, text := range hc.DeviceCgroupRules {
			rule, err := parseDeviceRule(text)
			if err != nil {
				return err
			}
			rules = append(rules, rule)
		}
		rules = append(rules, runtimeDeviceRules()...)
	}
	linux.Resources.Devices = rules
	return nil
}

// mappedDevices returns a device, or the devices of a directory, under the path
// that they have in the container.
func (b *builder) mappedDevices(mapping container.DeviceMapping) ([]specs.LinuxDevice, error) {
	found, err := b.Host.Lookup.Devices(mapping.PathOnHost)
	if err != nil {
		return nil, invalid("error gathering device information while adding custom device %q: %s", mapping.PathOnHost, err)
	}
	for i := range found {
		found[i].Path = mapping.PathInContainer + found[i].Path
	}
	return found, nil
}

var deviceRulePattern = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads a rule as --device-cgroup-rule takes it: "c 42:* rmw".
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRulePattern.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid device cgroup rule format: '%s'", text)
	}
	number := func(s, what string) (int64, error) {
		if s == "*" {
			return -1, nil
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, invalid("invalid %s value in device cgroup rule format: '%s'", what, text)
		}
		return n, nil
	}
	major, err := number(m[2], "major")
	if err != nil {
		return specs.LinuxDeviceCgroup{}, err
	}
	minor, err := number(m[3], "minor")
	return deviceRule(true, m[1], major, minor, m[4]), err
}

// rlimits returns the limits asked for and those of the daemon's that were not.
func rlimits(host Host, asked []*container.Ulimit) []specs.POSIXRlimit {
	byName := maps.Clone(host.Ulimits)
	if byName == nil {
		byName = make(map[string]*container.Ulimit)
	}
	for _, limit := range asked {
		byName[limit.Name] = limit
	}
	var list []specs.POSIXRlimit
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		limit := byName[name]
		list = append(list, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(limit.Soft), Hard: uint64(limit.Hard),
		})
	}
	return list
}

// sysctls merges the defaults with what was asked for, and refuses parameters
// that would change the host.
func (b *builder) sysctls() error {
	own := b.spec.Linux.Sysctl
	if b.HostConfig.NetworkMode.IsPrivate() {
		if name := "net.ipv4.ping_group_range"; b.Host.Sysctls[name] {
			// Everybody may send echo requests without CAP_NET_RAW. The range has to be mapped in the user namespace.
			own[name] = "0 2147483647"
			if b.userNS() {
				own[name] = "0 " + strconv.FormatUint(uint64(b.IDs.Size)-1, 10)
			}
		}
		if name := "net.ipv4.ip_unprivileged_port_start"; b.Host.Sysctls[name] {
			own[name] = "0"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.HostConfig.Sysctls)) {
		if err := b.checkSysctl(dotted(name)); err != nil {
			return err
		}
		own[name] = b.HostConfig.Sysctls[name]
	}
	return nil
}

// dotted brings a parameter's name into the form with dots. Where a slash is
// the first separator, the two have changed places (sysctl.d(5)):
// net/ipv4/conf/eth0.1/forwarding.
func dotted(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

func (b *builder) checkSysctl(name string) error {
	hc := b.HostConfig
	ipc := []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	}
	switch {
	case slices.Contains(ipc, name) || strings.HasPrefix(name, "fs.mqueue."):
		if hc.IpcMode.IsHost() {
			return invalid("sysctl %q is not allowed in the hosts ipc namespace", name)
		}
	case strings.HasPrefix(name, "net."):
		if hc.NetworkMode.IsHost() {
			return invalid("sysctl %q not allowed in host network namespace", name)
		}
	case name == "kernel.domainname" && hc.UTSMode.IsPrivate():
	case name == "kernel.hostname" && hc.UTSMode.IsPrivate():
		return invalid("sysctl %q is not allowed as it conflicts with the OCI %q field", name, "hostname")
	case strings.HasPrefix(name, "user."):
		if !b.userNS() {
			return invalid("setting ucounts without a user namespace not allowed: %v", name)
		}
	default:
		return invalid("sysctl %q is not in a separate kernel namespace", name)
	}
	return nil
}
