package spec

import (
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	defaultPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultShmSize = 64 << 20
	unconfined     = "unconfined"
)

// SetDefaults fills in what a request left open, as Docker shows it in inspect.
// It is applied after [Validate].
func SetDefaults(host Host, hc *container.HostConfig) {
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.ShmSize == 0 {
		if hc.ShmSize = host.ShmSize; hc.ShmSize == 0 {
			hc.ShmSize = defaultShmSize
		}
	}
	if hc.IpcMode.IsEmpty() {
		if hc.IpcMode = host.IpcMode; hc.IpcMode.IsEmpty() {
			hc.IpcMode = container.IPCModePrivate
		}
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = defaultCgroupns(host, hc)
	}
	if hc.OomKillDisable == nil {
		hc.OomKillDisable = new(bool)
	}
	if hc.MaskedPaths == nil && !hc.Privileged {
		hc.MaskedPaths = MaskedPaths(host)
	}
	if hc.ReadonlyPaths == nil && !hc.Privileged {
		hc.ReadonlyPaths = ReadonlyPaths()
	}
}

// defaultCgroupns gives a cgroup namespace to every container but a privileged
// one on v1, which Docker leaves in the host's as well: programs there look for
// their own group by its full path.
func defaultCgroupns(host Host, hc *container.HostConfig) container.CgroupnsMode {
	if hc.Privileged && !host.Version2() {
		return container.CgroupnsModeHost
	}
	if host.CgroupnsMode.IsEmpty() {
		return container.CgroupnsModePrivate
	}
	return host.CgroupnsMode
}

// MaskedPaths returns the paths that a container cannot read.
func MaskedPaths(host Host) []string {
	return slices.Concat([]string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts",
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap",
		"/sys/firmware",
	}, host.ThermalThrottle)
}

// ReadonlyPaths returns the paths that a container cannot write.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// defaultMounts returns what every container has mounted.
func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777"}},
	}
}

// deviceRule makes a rule; a negative number stands for every one.
func deviceRule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
}

// defaultDeviceRules returns Docker's rules: everything is denied but the
// devices that every container has. The last, a denial, keeps /dev/fuse shut
// for those who look at the list.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		deviceRule(true, "c", 1, 5, "rwm"),     // zero
		deviceRule(true, "c", 1, 3, "rwm"),     // null
		deviceRule(true, "c", 1, 9, "rwm"),     // urandom
		deviceRule(true, "c", 1, 8, "rwm"),     // random
		deviceRule(true, "c", 5, 0, "rwm"),     // tty
		deviceRule(true, "c", 5, 1, "rwm"),     // console
		deviceRule(false, "c", 10, 229, "rwm"), // fuse
	}
}

// runtimeDeviceRules returns the rules that Docker's OCI runtime adds to every
// container: nodes may be made of any device; pseudo terminals, /dev/full and
// tunnels can be used.
func runtimeDeviceRules() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{
		deviceRule(true, "c", -1, -1, "m"),
		deviceRule(true, "b", -1, -1, "m"),
		deviceRule(true, "c", 1, 7, "rwm"),    // full
		deviceRule(true, "c", 5, 2, "rwm"),    // ptmx
		deviceRule(true, "c", 136, -1, "rwm"), // pts/N
		deviceRule(true, "c", 10, 200, "rwm"), // net/tun
	}
}
