package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptrace(request, pid int, addr, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// PtraceSeize attaches to a thread without stopping it, with PTRACE_O_ options.
func PtraceSeize(pid, options int) error {
	return ptrace(unix.PTRACE_SEIZE, pid, 0, uintptr(options))
}

// PtraceListen leaves a thread that is stopped with its process so, and tells of
// what comes.
func PtraceListen(pid int) error {
	return ptrace(unix.PTRACE_LISTEN, pid, 0, 0)
}

// SyscallStop is where a traced thread has stopped, see struct
// ptrace_syscall_info in include/uapi/linux/ptrace.h.
type SyscallStop struct {
	Op     uint8 // PTRACE_SYSCALL_INFO_
	Arch   uint32
	Number uint64 // of an entry
	Args   [6]uint64
	Return int64 // of an exit
}

// PtraceSyscallInfo tells of a system call at which a thread has stopped. It needs
// Linux 5.3.
func PtraceSyscallInfo(pid int) (SyscallStop, error) {
	const head, size = 24, 88
	var b [size]byte
	if err := ptrace(unix.PTRACE_GET_SYSCALL_INFO, pid, size, uintptr(unsafe.Pointer(&b))); err != nil {
		return SyscallStop{}, err
	}
	s := SyscallStop{Op: b[0], Arch: binary.NativeEndian.Uint32(b[4:])}
	if s.Op == unix.PTRACE_SYSCALL_INFO_EXIT {
		s.Return = int64(binary.NativeEndian.Uint64(b[head:]))
		return s, nil
	}
	s.Number = binary.NativeEndian.Uint64(b[head:])
	for i := range s.Args {
		s.Args[i] = binary.NativeEndian.Uint64(b[head+8*(i+1):])
	}
	return s, nil
}

// Requests of nsfs (include/uapi/linux/nsfs.h), Linux 6.11.
const (
	nsGetPIDFromPIDNS = 0x8004b706
	nsGetPIDInPIDNS   = 0x8004b708
)

// PIDFrom is the number that a thread, which has number pid in the pid namespace
// of a descriptor, has here. PIDIn is the reverse.
func PIDFrom(ns, pid int) (int, error) { return translate(ns, nsGetPIDFromPIDNS, pid) }

// PIDIn is the number in the pid namespace of a descriptor of a thread that has
// number pid here.
func PIDIn(ns, pid int) (int, error) { return translate(ns, nsGetPIDInPIDNS, pid) }

func translate(ns, request, pid int) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), uintptr(request), uintptr(pid))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
