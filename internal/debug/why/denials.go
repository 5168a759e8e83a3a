package why

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/linux/seccomp"
	"github.com/portholehq/porthole/internal/record/death"
)

// asksFor is the capability that the kernel asks for when a call fails with EPERM,
// where it is one for all its uses (capabilities(7)).
var asksFor = map[string]string{
	"chown": "CAP_CHOWN", "lchown": "CAP_CHOWN", "fchown": "CAP_CHOWN", "fchownat": "CAP_CHOWN", "mknod": "CAP_MKNOD", "mknodat": "CAP_MKNOD",
	"setuid": "CAP_SETUID", "setreuid": "CAP_SETUID", "setresuid": "CAP_SETUID", "setfsuid": "CAP_SETUID",
	"setgid": "CAP_SETGID", "setregid": "CAP_SETGID", "setresgid": "CAP_SETGID", "setgroups": "CAP_SETGID",
	"mount": "CAP_SYS_ADMIN", "umount2": "CAP_SYS_ADMIN", "pivot_root": "CAP_SYS_ADMIN", "unshare": "CAP_SYS_ADMIN", "setns": "CAP_SYS_ADMIN",
	"sethostname": "CAP_SYS_ADMIN", "setdomainname": "CAP_SYS_ADMIN", "swapon": "CAP_SYS_ADMIN", "fsopen": "CAP_SYS_ADMIN", "move_mount": "CAP_SYS_ADMIN",
	"chroot": "CAP_SYS_CHROOT", "kill": "CAP_KILL", "tgkill": "CAP_KILL", "ptrace": "CAP_SYS_PTRACE", "process_vm_readv": "CAP_SYS_PTRACE",
	"settimeofday": "CAP_SYS_TIME", "clock_settime": "CAP_SYS_TIME", "adjtimex": "CAP_SYS_TIME", "clock_adjtime": "CAP_SYS_TIME", "reboot": "CAP_SYS_BOOT",
	"init_module": "CAP_SYS_MODULE", "finit_module": "CAP_SYS_MODULE", "delete_module": "CAP_SYS_MODULE", "mlock": "CAP_IPC_LOCK", "mlockall": "CAP_IPC_LOCK",
	"setpriority": "CAP_SYS_NICE", "sched_setscheduler": "CAP_SYS_NICE", "sched_setattr": "CAP_SYS_NICE", "setrlimit": "CAP_SYS_RESOURCE", "prlimit64": "CAP_SYS_RESOURCE",
	"socket": "CAP_NET_RAW", "bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON", "syslog": "CAP_SYSLOG", "capset": "CAP_SETPCAP",
}

// missing is the capability for want of which the kernel has refused a call; empty:
// it had another reason, or that is not known.
func missing(d death.Denial) string {
	switch {
	case d.Call == "bind" && d.Errno == "EACCES" && strings.Contains(d.Args, "{sa_family=AF_INET"): // a low port; of AF_UNIX it is the directory's mode
		return "CAP_NET_BIND_SERVICE"
	case d.Errno == "EPERM":
		return asksFor[d.Call]
	}
	return ""
}

// byProfile tells that an AppArmor profile has refused a call: EACCES has other
// reasons, but of these calls only modes of directories, which root passes.
func byProfile(d death.Denial, r *death.Rights) bool {
	if d.Seccomp || d.Errno != "EACCES" || r == nil || r.AppArmor == "" {
		return false
	}
	return slices.Contains([]string{"mount", "umount2", "move_mount", "pivot_root"}, d.Call)
}

// telling are the denials that can be why a program gave up: of the kernel's own
// those for which it asks for a capability, or a profile; what is answered by
// ENOSYS programs take for an older kernel, and go on.
func telling(list []death.Denial, r *death.Rights) []death.Denial {
	var out []death.Denial
	for _, d := range list {
		if d.Errno != "ENOSYS" && (d.Seccomp || missing(d) != "" || byProfile(d, r)) {
			out = append(out, d)
		}
	}
	// Seccomp first, then the last: a program gives up soon after what it needed.
	slices.SortStableFunc(out, func(a, b death.Denial) int {
		if a.Seccomp != b.Seccomp {
			if a.Seccomp {
				return -1
			}
			return 1
		}
		return b.First.Compare(a.First)
	})
	return out
}

// deniedCall is a program that failed after it was refused a call.
func deniedCall(e *evidence) []api.Verdict {
	if e.death.Cause != death.Failed {
		return nil
	}
	return e.refusedCalls(e.death.Denials)
}

// liveDenied tells of refusals in one that lives.
func liveDenied(e *evidence) []api.Verdict { return e.refusedCalls(e.sub.Denials) }

func (e *evidence) refusedCalls(all []death.Denial) []api.Verdict {
	rights := e.rights()
	list := telling(all, rights)
	if len(list) == 0 {
		return nil
	}
	d := list[0]
	who := "the kernel"
	switch {
	case d.Seccomp:
		who = "its seccomp profile"
	case byProfile(d, rights):
		who = "its AppArmor profile " + rights.AppArmor
	}
	need, next := e.remedy(d)
	text := fmt.Sprintf("%s called %s%s, which %s refuses with %s", d.Program, d.Call, d.Args, who, d.Errno)
	if need != "" {
		text += ": it needs " + need
	}
	var evidence []string
	for _, x := range all[:min(len(all), maxWords)] {
		evidence = append(evidence, denialText(x))
	}
	return verdict("call-refused", api.Likely, text, evidence, next...)
}

func denialText(d death.Denial) string {
	by := "the kernel"
	if d.Seccomp {
		by = "seccomp"
	}
	times := ""
	if d.Count > 1 {
		times = fmt.Sprintf(", %d times", d.Count)
	}
	return fmt.Sprintf("refused by %s: %s: %s%s = %s%s", by, d.Program, d.Call, d.Args, d.Errno, times)
}

// profileCommands are for what an AppArmor profile refuses.
var profileCommands = []string{
	"porthole run --security-opt apparmor=NAME …   # a profile of your own that allows it, loaded by apparmor_parser -r FILE",
	"porthole run --security-opt apparmor=unconfined …   # only to try: without any profile",
}

// remedy is the capability that is missing, if it is known, and the smallest change
// that lets the call through.
func (e *evidence) remedy(d death.Denial) (need string, next []string) {
	r := e.rights()
	if r == nil {
		return missing(d), nil
	}
	if byProfile(d, r) {
		return "", profileCommands
	}
	has, custom := capabilitiesOf(r), r.Seccomp
	if d.Seccomp && custom == "" {
		f := seccomp.Facts{Arch: runtime.GOARCH, Capabilities: has}
		if v, _, err := probe.Kernel(); err == nil {
			f.Kernel = seccomp.KernelVersion{Kernel: uint64(v.Major), Major: uint64(v.Minor)}
		}
		if c, ok := seccomp.Unlocking(d.Call, f); ok {
			flag := strings.TrimPrefix(c.String(), "CAP_")
			return c.String(), []string{fmt.Sprintf("porthole run --cap-add %s …   # with it the default seccomp profile lets %s through as well", flag, d.Call)}
		}
		return "", []string{
			fmt.Sprintf("porthole run --security-opt seccomp=FILE …   # Docker's default profile with %s among the names that are allowed", d.Call),
			"porthole run --security-opt seccomp=unconfined …   # only to try: without any profile",
		}
	}
	if d.Seccomp {
		return "", []string{fmt.Sprintf("allow %s in the profile of --security-opt %s", d.Call, custom)}
	}
	c := missing(d)
	if slices.Contains(has, c) {
		return c + " outside of the container's user namespace", []string{"porthole run --userns host …   # its capabilities then count on the host: mind what it can do with them"}
	}
	return c, []string{fmt.Sprintf("porthole run --cap-add %s …", strings.TrimPrefix(c, "CAP_"))}
}

// rights are what the container was given; nil: that is not known.
func (e *evidence) rights() *death.Rights {
	switch {
	case e.death != nil && e.death.Rights != nil:
		return e.death.Rights
	case e.sub != nil:
		return engine.RightsOf(e.sub.HostConfig, e.sub.AppArmor)
	}
	return nil
}

// capabilitiesOf are those that a container has with such rights.
func capabilitiesOf(r *death.Rights) []string {
	all := caps.Set(1<<(caps.Newest+1) - 1)
	if r.Privileged {
		return all.Names()
	}
	list, err := caps.Tweak(caps.Default(), r.CapAdd, r.CapDrop, all)
	if err != nil {
		return caps.Default()
	}
	return list
}
