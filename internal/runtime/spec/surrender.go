package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/linux/caps"
)

// grave are the capabilities that lead out of a container in the host's user namespace, or to what the kernel does not
// guard well in one of its own.
var grave = []string{
	"ALL", "CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_SYS_TIME",
	"CAP_DAC_READ_SEARCH", "CAP_BPF", "CAP_PERFMON", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_SYSLOG",
}

// Surrenders lists what a container has asked for that gives up what the host is protected by, as options of the command
// line: empty for one with the usual settings. Mounts are not looked at. It takes what [Validate] has passed.
func Surrenders(hc *container.HostConfig) []string {
	var list []string
	note := func(given bool, option string) {
		if given {
			list = append(list, option)
		}
	}
	note(hc.Privileged, "--privileged")
	note(hc.UsernsMode.IsHost(), "--userns=host")
	note(hc.PidMode.IsHost(), "--pid=host")
	note(hc.IpcMode.IsHost(), "--ipc=host")
	note(hc.UTSMode.IsHost(), "--uts=host")
	note(hc.NetworkMode.IsHost(), "--network=host")
	// A privileged one on cgroup v1 has it by default.
	note(hc.CgroupnsMode.IsHost() && !hc.Privileged, "--cgroupns=host")
	for _, name := range hc.CapAdd {
		full := strings.ToUpper(name)
		if c, err := caps.Parse(name); err == nil {
			full = c.String()
		}
		note(slices.Contains(grave, full), "--cap-add="+strings.TrimPrefix(full, "CAP_"))
	}
	for _, d := range hc.Devices {
		list = append(list, "--device="+d.PathOnHost)
	}
	for _, rule := range hc.DeviceCgroupRules {
		list = append(list, "--device-cgroup-rule="+rule)
	}
	options, err := parseSecurity(hc.SecurityOpt)
	note(err == nil && options.seccomp == unconfined, "--security-opt=seccomp=unconfined")
	note(err == nil && options.apparmor == unconfined, "--security-opt=apparmor=unconfined")
	note(err == nil && options.writableCgroups != nil && *options.writableCgroups, "--security-opt=writable-cgroups")
	note(hc.MaskedPaths != nil && len(hc.MaskedPaths) == 0 && !hc.Privileged, "--security-opt=systempaths=unconfined")
	return list
}
