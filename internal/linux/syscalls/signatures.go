package syscalls

import (
	"strconv"
	"strings"
	"sync"
)

// signatures has the arguments of each call by their kinds. A kind may be
// followed by @N: the length is in argument N, counted from 0. Kinds that begin
// with > are filled in by the kernel and printed at the return; with @r their
// length is what the call returned. What has no line here is printed as numbers.
//
// From the manual pages of section 2 and include/linux/syscalls.h.
var signatures = map[string]string{
	// files by path
	"open": "path open openmode", "openat": "dirfd path open openmode", "openat2": "dirfd path openhow u", "creat": "path mode",
	"stat": "path >stat", "lstat": "path >stat", "newfstatat": "dirfd path >stat flags:at", "statx": "dirfd path flags:at flags:statxmask >statx",
	"access": "path access", "faccessat": "dirfd path access", "faccessat2": "dirfd path access flags:faccessat",
	"chmod": "path mode", "fchmodat": "dirfd path mode", "fchmodat2": "dirfd path mode flags:at",
	"chown": "path d d", "lchown": "path d d", "fchownat": "dirfd path d d flags:at",
	"chdir": "path", "chroot": "path", "mkdir": "path mode", "mkdirat": "dirfd path mode", "rmdir": "path",
	"mknod": "path nodemode dev", "mknodat": "dirfd path nodemode dev", "unlink": "path", "unlinkat": "dirfd path flags:unlinkat",
	"rename": "path path", "renameat": "dirfd path dirfd path", "renameat2": "dirfd path dirfd path flags:rename",
	"link": "path path", "linkat": "dirfd path dirfd path flags:at", "symlink": "path path", "symlinkat": "path dirfd path",
	"readlink": "path >buf@r u", "readlinkat": "dirfd path >buf@r u", "truncate": "path d", "statfs": "path >p", "getcwd": ">str u",
	"utime": "path p", "utimes": "path p", "futimesat": "dirfd path p", "utimensat": "dirfd path timespec2 flags:at",
	"setxattr": "path str buf@3 u flags:xattr", "lsetxattr": "path str buf@3 u flags:xattr", "fsetxattr": "fd str buf@3 u flags:xattr",
	"getxattr": "path str >buf@r u", "lgetxattr": "path str >buf@r u", "fgetxattr": "fd str >buf@r u",
	"listxattr": "path >buf@r u", "llistxattr": "path >buf@r u", "flistxattr": "fd >buf@r u",
	"removexattr": "path str", "lremovexattr": "path str", "fremovexattr": "fd str",
	"inotify_init": "", "inotify_init1": "flags:inotify", "inotify_add_watch": "fd path flags:inmask", "inotify_rm_watch": "fd d",
	"fanotify_init": "x x", "fanotify_mark": "fd x x dirfd path", "name_to_handle_at": "dirfd path p >int flags:at", "open_by_handle_at": "fd p open",
	"acct": "path", "swapon": "path x", "swapoff": "path", "uselib": "path", "quotactl": "x path d p",

	// mounts
	"mount": "path path str flags:mount mountdata", "umount2": "path flags:umount", "pivot_root": "path path",
	"fsopen": "str x", "fsmount": "fd x flags:fsmountattr", "fspick": "dirfd path x", "fsconfig": "fd u str p d",
	"open_tree": "dirfd path flags:opentree", "move_mount": "dirfd path dirfd path flags:movemount", "mount_setattr": "dirfd path flags:at p u",

	// descriptors
	"read": "fd >buf@r u", "write": "fd buf@2 u", "pread64": "fd >buf@r u d", "pwrite64": "fd buf@2 u d",
	"readv": "fd >iov@2 u", "writev": "fd iov@2 u", "preadv": "fd >iov@2 u d", "pwritev": "fd iov@2 u d",
	"preadv2": "fd >iov@2 u d d x", "pwritev2": "fd iov@2 u d d x",
	"close": "fd", "close_range": "u u flags:closerange", "dup": "fd", "dup2": "fd fd", "dup3": "fd fd flags:cloexec",
	"fstat": "fd >stat", "fstatfs": "fd >p", "lseek": "fd d enum:whence", "ioctl": "fd ioctl p", "fcntl": "fd fcntl fcntlarg",
	"flock": "fd flags:flock", "fsync": "fd", "fdatasync": "fd", "syncfs": "fd", "sync": "", "ftruncate": "fd d", "fallocate": "fd flags:fallocate d d",
	"fadvise64": "fd d u enum:fadvise", "readahead": "fd d u", "sync_file_range": "fd d d x",
	"getdents": "fd >p u", "getdents64": "fd >p u", "fchdir": "fd", "fchmod": "fd mode", "fchown": "fd d d",
	"pipe": ">fds", "pipe2": ">fds flags:cloexec", "sendfile": "fd fd >offset u", "splice": "fd >offset fd >offset u flags:splice",
	"tee": "fd fd u flags:splice", "vmsplice": "fd iov@2 u flags:splice", "copy_file_range": "fd >offset fd >offset u x",
	"eventfd": "u", "eventfd2": "u flags:eventfd", "signalfd": "fd sigset@2 u", "signalfd4": "fd sigset@2 u flags:signalfd",
	"timerfd_create": "enum:clock flags:timerfd", "timerfd_settime": "fd flags:tfdabs itimerspec >itimerspec", "timerfd_gettime": "fd >itimerspec",
	"memfd_create": "str flags:memfd", "memfd_secret": "x", "userfaultfd": "x",
	"poll": "pollfds@1 u d", "ppoll": "pollfds@1 u timespec sigset@4 u", "select": "d p p p timeval", "pselect6": "d p p p timespec p",
	"epoll_create": "d", "epoll_create1": "flags:cloexec", "epoll_ctl": "fd enum:epollctl fd epollevent",
	"epoll_wait": "fd >epollevents@r d d", "epoll_pwait": "fd >epollevents@r d d sigset@5 u", "epoll_pwait2": "fd >epollevents@r d timespec sigset@5 u",
	"io_setup": "u p", "io_uring_setup": "u p", "io_uring_enter": "fd u u x p u", "io_uring_register": "fd u p u",

	// sockets
	"socket": "enum:family socktype sockproto", "socketpair": "enum:family socktype sockproto >fds",
	"bind": "fd sockaddr@2 u", "connect": "fd sockaddr@2 u", "listen": "fd d",
	"accept": "fd >sockaddr@*2 >len", "accept4": "fd >sockaddr@*2 >len flags:sockflags",
	"getsockname": "fd >sockaddr@*2 >len", "getpeername": "fd >sockaddr@*2 >len", "shutdown": "fd enum:shut",
	"sendto": "fd buf@2 u flags:msg sockaddr@5 u", "recvfrom": "fd >buf@r u flags:msg >sockaddr@*5 >len",
	"sendmsg": "fd msghdr flags:msg", "recvmsg": "fd >msghdr flags:msg", "sendmmsg": "fd p u flags:msg", "recvmmsg": "fd p u flags:msg timespec",
	"setsockopt": "fd enum:sol sockopt optval@4 u", "getsockopt": "fd enum:sol sockopt >optval@*4 >len",

	// memory
	"mmap": "p u flags:prot flags:map fd x", "munmap": "p u", "mprotect": "p u flags:prot", "mremap": "p u u flags:mremap p", "brk": "p",
	"madvise": "p u enum:madvise", "msync": "p u flags:msync", "mlock": "p u", "mlock2": "p u x", "munlock": "p u", "mlockall": "flags:mlockall", "munlockall": "",
	"mincore": "p u p", "pkey_alloc": "x x", "pkey_free": "d", "pkey_mprotect": "p u flags:prot d", "membarrier": "d x d",
	"process_vm_readv": "d p u p u x", "process_vm_writev": "d p u p u x", "process_madvise": "fd p u enum:madvise x",

	// processes
	"execve": "path strings p", "execveat": "dirfd path strings p flags:at",
	"clone": "clone p >p >p p", "clone3": "clone3 u", "fork": "", "vfork": "", "exit": "d", "exit_group": "d",
	"wait4": "d >waitstatus flags:wait p", "waitid": "d d >p flags:wait p", "kill": "d signal", "tkill": "d signal", "tgkill": "d d signal",
	"pidfd_open": "d flags:pidfd", "pidfd_send_signal": "fd signal p x", "pidfd_getfd": "fd d x", "process_mrelease": "fd x",
	"rt_sigaction": "signal sigaction >sigaction u", "rt_sigprocmask": "enum:how sigset@3 >sigset@3 u", "rt_sigpending": ">sigset@1 u",
	"rt_sigsuspend": "sigset@1 u", "rt_sigtimedwait": "sigset@3 p timespec u", "rt_sigqueueinfo": "d signal p", "rt_tgsigqueueinfo": "d d signal p",
	"rt_sigreturn": "", "sigaltstack": "p p", "pause": "",
	"getpid": "", "getppid": "", "gettid": "", "getpgrp": "", "getpgid": "d", "setpgid": "d d", "getsid": "d", "setsid": "",
	"getuid": "", "geteuid": "", "getgid": "", "getegid": "", "setuid": "d", "setgid": "d", "setreuid": "d d", "setregid": "d d",
	"setresuid": "d d d", "setresgid": "d d d", "getresuid": ">int >int >int", "getresgid": ">int >int >int", "setfsuid": "d", "setfsgid": "d",
	"setgroups": "u ints@0", "getgroups": "u >ints@r", "capget": "p p", "capset": "p capdata",
	"prctl": "enum:prctl prctlarg x x x", "arch_prctl": "enum:archprctl p", "personality": "x", "seccomp": "enum:seccompop seccompflags p",
	"setns": "fd flags:unshare", "unshare": "flags:unshare", "ptrace": "enum:ptrace d p p", "kcmp": "d d d u u",
	"getrlimit": "enum:rlimit >rlimit", "setrlimit": "enum:rlimit rlimit", "prlimit64": "d enum:rlimit rlimit >rlimit", "getrusage": "d p", "times": "p",
	"getpriority": "d d", "setpriority": "d d d", "ioprio_get": "d d", "ioprio_set": "d d x",
	"sched_yield": "", "sched_getaffinity": "d u p", "sched_setaffinity": "d u p", "sched_getparam": "d p", "sched_setparam": "d p",
	"sched_getscheduler": "d", "sched_setscheduler": "d d p", "getcpu": ">int p p",
	"set_tid_address": "p", "set_robust_list": "p u", "get_robust_list": "d p p", "rseq": "p x x x", "restart_syscall": "",
	"futex": "p futex u futexarg futexother futexother", "futex_waitv": "p u x p d", "futex_wake": "p x d x", "futex_wait": "p u x x p d",

	// time
	"nanosleep": "timespec >p", "clock_nanosleep": "enum:clock flags:timerabs timespec >p",
	"clock_gettime": "enum:clock >timespec", "clock_settime": "enum:clock timespec", "clock_getres": "enum:clock >timespec", "clock_adjtime": "enum:clock p",
	"gettimeofday": ">timeval p", "settimeofday": "timeval p", "time": "p", "alarm": "u", "adjtimex": "p",
	"setitimer": "enum:itimer p p", "getitimer": "enum:itimer p", "timer_create": "enum:clock p >int", "timer_settime": "d flags:timerabs itimerspec >itimerspec",
	"timer_gettime": "d >itimerspec", "timer_delete": "d", "timer_getoverrun": "d",

	// the system
	"uname": ">uname", "sysinfo": ">p", "sethostname": "buf@1 u", "setdomainname": "buf@1 u", "umask": "mode", "getrandom": ">buf@r u flags:random",
	"reboot": "x x x p", "syslog": "d p d", "bpf": "enum:bpf p u", "perf_event_open": "p d d fd x", "init_module": "p u str", "finit_module": "fd str x",
	"delete_module": "str x", "kexec_load": "u u p x", "kexec_file_load": "fd fd u str x", "add_key": "str str buf@3 u d", "request_key": "str str str d", "keyctl": "d x x x x",
	"iopl": "d", "ioperm": "u u d", "vhangup": "", "lookup_dcookie": "u p u", "landlock_create_ruleset": "p u x", "landlock_add_rule": "fd d p x", "landlock_restrict_self": "fd x",
	"mbind": "p u d p u x", "set_mempolicy": "d p u", "get_mempolicy": "p p u p x", "move_pages": "d u p p p x", "migrate_pages": "d u p p",
	"shmget": "x u x", "shmat": "d p x", "shmdt": "p", "shmctl": "d d p", "semget": "x d x", "semop": "d p u", "semctl": "d d d x", "semtimedop": "d p u timespec",
	"msgget": "x x", "msgsnd": "d p u x", "msgrcv": "d p u d x", "msgctl": "d d p",
	"mq_open": "str open openmode p", "mq_unlink": "str", "mq_timedsend": "d buf@2 u u timespec", "mq_timedreceive": "d >buf@r u p timespec", "mq_notify": "d p", "mq_getsetattr": "d p p",
	"statmount": "p p u x", "listmount": "p p u x", "cachestat": "fd p p x", "file_getattr": "dirfd path p u flags:at", "file_setattr": "dirfd path p u flags:at",
}

// argument is one argument of a signature.
type argument struct {
	kind   string
	set    string // the name of a set of flags or of an enum
	length int    // the argument that has the length; lengthReturned, lengthNone
	deref  bool   // that argument is the address of the length
	out    bool   // printed at the return
	print  func(t *Text, i int, a argument) string
}

const (
	lengthNone     = -1
	lengthReturned = -2
)

var parsed = sync.OnceValue(func() map[string][]argument {
	out := make(map[string][]argument, len(signatures))
	for name, text := range signatures {
		list := make([]argument, 0, 6)
		for word := range strings.FieldsSeq(text) {
			list = append(list, parseArgument(word))
		}
		out[name] = list
	}
	return out
})

func parseArgument(word string) argument {
	a := argument{length: lengthNone}
	word, a.out = strings.CutPrefix(word, ">")
	kind, length, _ := strings.Cut(word, "@")
	length, a.deref = strings.CutPrefix(length, "*")
	if length == "r" {
		a.length = lengthReturned
	} else if n, err := strconv.Atoi(length); err == nil {
		a.length = n
	}
	a.kind, a.set, _ = strings.Cut(kind, ":")
	a.print = kinds()[a.kind]
	return a
}

// alike are calls with the signature of another, on architectures with 32 bits.
var alike = strings.NewReplacer("_time64", "", "fcntl64", "fcntl", "fstatat64", "newfstatat", "_newselect", "select", "mmap2", "mmap", "sendfile64", "sendfile", "fadvise64_64", "fadvise64")

// unknownArguments are printed of a call that has no line: strace does the same.
const unknownArguments = 6

func signature(name string) []argument {
	if sig, ok := parsed()[name]; ok {
		return sig
	}
	if sig, ok := parsed()[strings.TrimSuffix(alike.Replace(name), "32")]; ok {
		return sig
	}
	list := make([]argument, unknownArguments)
	for i := range list {
		list[i] = parseArgument("x")
	}
	return list
}

// Known tells whether the arguments of a call have names and types here.
func Known(name string) bool {
	_, ok := parsed()[name]
	return ok
}
