package spec

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/signals"
)

// Validate checks a request as a client sent it, before it is merged with an
// image. Settings that the host cannot give, and that Docker discards with a
// warning, are taken out of hc; WorkingDir is brought into its shortest form.
// Everything else that is wrong is an invalid argument.
func Validate(host Host, c *container.Config, hc *container.HostConfig) (warnings []string, err error) {
	v := &validator{host: host}
	for _, check := range []func(*container.Config, *container.HostConfig) error{
		v.networkMode, v.isolation, v.realtime, v.config, v.hostConfig, v.hostname,
		v.resources, v.modes, v.userNamespace, v.security,
	} {
		if err := check(c, hc); err != nil {
			return v.warnings, err
		}
	}
	return v.warnings, nil
}

// ValidateUpdate checks limits that a container that exists is to get. Limits
// that the host cannot give are taken out, with a warning.
func ValidateUpdate(host Host, r *container.Resources) (warnings []string, err error) {
	v := &validator{host: host, update: true}
	hc := &container.HostConfig{Resources: *r}
	err = v.resources(nil, hc)
	*r = hc.Resources
	return v.warnings, err
}

type validator struct {
	host     Host
	update   bool
	warnings []string
}

func (v *validator) warn(format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

func (v *validator) networkMode(c *container.Config, hc *container.HostConfig) error {
	if hc.NetworkMode == "container" || hc.NetworkMode.IsContainer() {
		if err := joinedNetwork(c, hc); err != nil {
			return err
		}
	}
	if hc.UTSMode.IsHost() && c.Hostname != "" {
		return invalid("conflicting options: hostname and the UTS mode")
	}
	if hc.NetworkMode.IsHost() && len(hc.Links) > 0 {
		return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	return nil
}

// joinedNetwork refuses what would change the network of another container.
func joinedNetwork(c *container.Config, hc *container.HostConfig) error {
	switch {
	case hc.NetworkMode.ConnectedContainer() == "":
		return invalid("invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case len(hc.Links) > 0:
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(hc.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case len(hc.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(hc.PortBindings) > 0 || hc.PublishAllPorts:
		return invalid("conflicting options: port publishing and the container type network mode")
	case len(c.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

// isolation refuses what only exists on Windows.
func (v *validator) isolation(_ *container.Config, hc *container.HostConfig) error {
	switch {
	case !hc.Isolation.IsDefault():
		return invalid("invalid isolation (%s): linux only supports 'default'", hc.Isolation)
	case hc.IOMaximumBandwidth != 0:
		return invalid("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	case hc.IOMaximumIOps != 0:
		return invalid("invalid option: QoS maximum IOPs configuration is not supported on linux")
	}
	return nil
}

func (v *validator) realtime(_ *container.Config, hc *container.HostConfig) error {
	period, runtime := hc.CPURealtimePeriod, hc.CPURealtimeRuntime
	switch {
	case (period != 0 || runtime != 0) && !v.host.Cgroup.CPURealtime:
		return invalid("kernel does not support CPU real-time scheduler")
	case period != 0 && runtime > period:
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	case v.host.Cgroup.CPUShares && hc.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", hc.CPUShares)
	}
	return nil
}

func (v *validator) config(c *container.Config, _ *container.HostConfig) error {
	if c.WorkingDir != "" {
		if !path.IsAbs(c.WorkingDir) {
			return invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
		}
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := signals.Parse(c.StopSignal); err != nil {
			return invalid("%v", err)
		}
	}
	for _, env := range c.Env {
		if key, _, _ := strings.Cut(env, "="); key == "" {
			return invalid("invalid environment variable: %s", env)
		}
	}
	return healthcheck(c.Healthcheck)
}

func healthcheck(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	for _, d := range []struct {
		name  string
		short bool
	}{
		{"Interval", h.Interval != 0 && h.Interval < container.MinimumDuration},
		{"Timeout", h.Timeout != 0 && h.Timeout < container.MinimumDuration},
		{"StartPeriod", h.StartPeriod != 0 && h.StartPeriod < container.MinimumDuration},
		{"StartInterval", h.StartInterval != 0 && h.StartInterval < container.MinimumDuration},
	} {
		if d.short {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	return nil
}

func (v *validator) hostConfig(_ *container.Config, hc *container.HostConfig) error {
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	for _, extra := range hc.ExtraHosts {
		if err := extraHost(extra); err != nil {
			return err
		}
	}
	if err := portBindings(hc.PortBindings); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return invalid("%v", err)
	}
	known := caps.UpTo(v.host.LastCap)
	if _, err := caps.Normalize(hc.CapAdd, known); err != nil {
		return invalid("invalid CapAdd: %v", err)
	}
	if _, err := caps.Normalize(hc.CapDrop, known); err != nil {
		return invalid("invalid CapDrop: %v", err)
	}
	if _, empty := hc.Annotations[""]; empty {
		return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	return nil
}

// extraHost checks NAME:ADDRESS. Only the first colon separates, for the sake
// of IPv6.
func extraHost(text string) error {
	name, address, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return invalid("bad format for add-host: %q", text)
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(address), "["), "]")
	if _, err := netip.ParseAddr(bare); err != nil && address != "host-gateway" {
		return invalid("invalid IP address in add-host: %q", address)
	}
	return nil
}

func portBindings(ports network.PortMap) error {
	for port, bindings := range ports {
		if !port.IsValid() || port.Num() == 0 {
			return invalid("invalid port specification: %q", port.String())
		}
		for _, binding := range bindings {
			if binding.HostPort == "" {
				continue // any
			}
			if _, err := network.ParsePortRange(binding.HostPort); err != nil {
				return invalid("invalid port specification: %q", binding.HostPort)
			}
		}
	}
	return nil
}

func (v *validator) hostname(c *container.Config, _ *container.HostConfig) error {
	const longest = 64 // HOST_NAME_MAX
	if len(c.Hostname) > longest {
		return invalid("hostname %q is too long (maximum %d bytes)", c.Hostname, longest)
	}
	return nil
}

func (v *validator) resources(_ *container.Config, hc *container.HostConfig) error {
	for _, check := range []func(*container.Resources) error{v.memory, v.swappiness, v.reservation, v.cpu, v.quota, v.cpuset, v.blockIO} {
		if err := check(&hc.Resources); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) memory(r *container.Resources) error {
	const least = 6 << 20 // room to start at all
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // older clients' word for "not asked for"
	}
	if r.Memory != 0 && r.Memory < least {
		return invalid("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !v.host.Cgroup.Memory {
		v.warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !v.host.Cgroup.Swap {
		v.warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !v.update {
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	return nil
}

func (v *validator) swappiness(r *container.Resources) error {
	if r.MemorySwappiness != nil && !v.host.Cgroup.Swappiness {
		v.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	return nil
}

func (v *validator) reservation(r *container.Resources) error {
	const least = 6 << 20
	if r.MemoryReservation > 0 && !v.host.Cgroup.MemoryReservation {
		v.warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation > 0 && r.MemoryReservation < least {
		return invalid("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if r.OomKillDisable != nil && !v.host.Cgroup.OOMKillDisable {
		if *r.OomKillDisable {
			v.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		v.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !v.host.Cgroup.Pids {
		if *r.PidsLimit > 0 {
			v.warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return nil
}

func (v *validator) cpu(r *container.Resources) error {
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs > 0 && !v.host.Cgroup.CPUQuota:
		return invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(v.host.NCPU)*1e9:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", v.host.NCPU)
	}
	if r.CPUShares > 0 && !v.host.Cgroup.CPUShares {
		v.warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	return nil
}

func (v *validator) quota(r *container.Resources) error {
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !v.host.Cgroup.CPUQuota {
		v.warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000) {
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		v.warn("linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return nil
}

func (v *validator) cpuset(r *container.Resources) error {
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !v.host.Cgroup.Cpuset {
		v.warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	for _, s := range []struct{ asked, available, what, kind string }{
		{r.CpusetCpus, v.host.Cgroup.CPUs, "CPUs", "cpus"},
		{r.CpusetMems, v.host.Cgroup.Mems, "memory nodes", "mems"},
	} {
		within, err := within(s.asked, s.available)
		if err != nil {
			return invalid("Invalid value %s for cpuset %s: %v", s.asked, s.kind, err)
		}
		if !within {
			return invalid("Requested %s are not available - requested %s, available: %s", s.what, s.asked, s.available)
		}
	}
	return nil
}

// within tells whether a list such as "0-2,7" names only numbers that the other
// list has.
func within(asked, available string) (bool, error) {
	have, err := ranges(available)
	if err != nil {
		return false, err
	}
	want, err := ranges(asked)
	if err != nil {
		return false, err
	}
	for _, w := range want {
		for n := w[0]; n <= w[1]; n++ {
			if !slices.ContainsFunc(have, func(h [2]int) bool { return h[0] <= n && n <= h[1] }) {
				return false, nil
			}
		}
	}
	return true, nil
}

// ranges parses a list such as "0-2,7". The largest number is the kernel's own
// (CONFIG_NR_CPUS), so that nobody keeps us busy with counting.
func ranges(text string) ([][2]int, error) {
	const largest = 8192
	if text == "" {
		return nil, nil
	}
	var list [][2]int
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.Atoi(low)
		b, errB := strconv.Atoi(high)
		if errA != nil || errB != nil || b < a {
			return nil, fmt.Errorf("invalid format: %s", text)
		}
		if b > largest {
			return nil, fmt.Errorf("value of out range, maximum is %d", largest)
		}
		list = append(list, [2]int{a, b})
	}
	return list, nil
}

func (v *validator) blockIO(r *container.Resources) error {
	have := v.host.Cgroup
	if r.BlkioWeight > 0 && !have.IOWeight {
		v.warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return invalid("Range of blkio weight is from 10 to 1000")
	}
	if len(r.BlkioWeightDevice) > 0 && !have.IOWeightDevice {
		v.warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = []*blkiodev.WeightDevice{}
	}
	for _, t := range []struct {
		list *[]*blkiodev.ThrottleDevice
		have bool
		text string
	}{
		{&r.BlkioDeviceReadBps, have.IOReadBps, "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded."},
		{&r.BlkioDeviceWriteBps, have.IOWriteBps, "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded."},
		{&r.BlkioDeviceReadIOps, have.IOReadIOPS, "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded."},
		{&r.BlkioDeviceWriteIOps, have.IOWriteIOPS, "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded."},
	} {
		if len(*t.list) > 0 && !t.have {
			v.warn("Your kernel does not support %s", t.text)
			*t.list = []*blkiodev.ThrottleDevice{}
		}
	}
	return nil
}

func (v *validator) modes(_ *container.Config, hc *container.HostConfig) error {
	switch {
	case !hc.IpcMode.Valid():
		return invalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return invalid("invalid PID mode: %v", hc.PidMode)
	case hc.ShmSize < 0:
		return invalid("SHM size can not be less than 0")
	case !hc.UTSMode.Valid():
		return invalid("invalid UTS mode: %v", hc.UTSMode)
	case hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000:
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	case !hc.CgroupnsMode.Valid():
		return invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	}
	if !v.host.IPv4Forwarding && !hc.NetworkMode.IsHost() && !hc.NetworkMode.IsNone() {
		v.warn("IPv4 forwarding is disabled. Networking will not work.")
	}
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		v.warn("Published ports are discarded when using host network mode")
	}
	if hc.CgroupnsMode.IsPrivate() && !v.host.CgroupNamespaces {
		v.warn("Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
	}
	return nil
}

// userNamespace checks what cannot be had together with a user namespace, when
// one is asked for by name. A container that does not ask gets one where it can.
func (v *validator) userNamespace(_ *container.Config, hc *container.HostConfig) error {
	switch hc.UsernsMode {
	case "", "host":
		return nil
	case "private":
	default:
		return invalid("invalid user namespace mode: %v", hc.UsernsMode)
	}
	switch {
	case hc.Privileged:
		return invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case hc.NetworkMode.IsHost():
		return invalid("cannot share the host's network namespace when user namespaces are enabled")
	case hc.PidMode.IsHost():
		return invalid("cannot share the host PID namespace when user namespaces are enabled")
	case hc.IpcMode.IsHost():
		return invalid("cannot share the host IPC namespace when user namespaces are enabled")
	case hc.UTSMode.IsHost():
		return invalid("cannot share the host UTS namespace when user namespaces are enabled")
	}
	return nil
}

// security reads options that would otherwise only fail at the start, and tells
// of those that the host has nothing to do with.
func (v *validator) security(_ *container.Config, hc *container.HostConfig) error {
	options, err := parseSecurity(hc.SecurityOpt)
	if err != nil {
		return err
	}
	if p := options.apparmor; p != "" && p != unconfined && !v.host.AppArmor {
		v.warn("AppArmor is not enabled on this host. Profile %q is not applied.", p)
	}
	for _, label := range options.labels {
		if label != "disable" {
			v.warn("SELinux is not supported. Label option %q is not applied.", label)
		}
	}
	for _, rule := range hc.DeviceCgroupRules {
		if _, err := parseDeviceRule(rule); err != nil {
			return err
		}
	}
	return nil
}
