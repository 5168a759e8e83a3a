package syscalls

import "slices"

// classes are those of strace(1) that are no matter of arguments.
var classes = map[string][]string{
	"process": {"clone", "clone3", "execve", "execveat", "exit", "exit_group", "fork", "kill", "pidfd_open", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill", "unshare", "vfork", "wait4", "waitid"},
	"signal":  {"kill", "pause", "pidfd_send_signal", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack", "signalfd", "signalfd4", "tgkill", "tkill"},
	"network": {"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair"},
	"memory":  {"brk", "madvise", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_mprotect"},
	"creds":   {"capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getuid", "prctl", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid", "setuid"},
}

// Class lists the calls of a class of strace(1), sorted: file, desc, process,
// network, signal, memory or creds; none for an unknown one.
func Class(name string) []string {
	kind := map[string]string{"file": "path", "desc": "fd"}[name]
	if kind == "" {
		return slices.Clone(classes[name])
	}
	var out []string
	for call, sig := range parsed() {
		if slices.ContainsFunc(sig, func(a argument) bool { return a.kind == kind }) {
			out = append(out, call)
		}
	}
	slices.Sort(out)
	return out
}
