package sys

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Prctl is prctl(2) for operations whose arguments are numbers.
func Prctl(op int, a2, a3, a4, a5 uintptr) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, uintptr(op), a2, a3, a4, a5, 0); errno != 0 {
		return errno
	}
	return nil
}

// BoundingSet says whether capability n is in the thread's bounding set; an
// error means that the kernel does not know it.
func BoundingSet(n int) (bool, error) {
	v, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return v == 1, nil
}

// Seccomp loads a filter for the calling thread: program is an array of struct
// sock_filter, 8 bytes each, flags are SECCOMP_FILTER_FLAG_*. With
// SECCOMP_FILTER_FLAG_NEW_LISTENER the result is the listener's descriptor.
func Seccomp(program []byte, flags uint32) (int, error) {
	if len(program) == 0 || len(program)%8 != 0 || len(program)/8 > 1<<16-1 {
		return 0, errors.New("seccomp program has a wrong length")
	}
	prog := unix.SockFprog{
		Len:    uint16(len(program) / 8),
		Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0])),
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// SeccompProgram is the byte form of a filter that Seccomp takes.
func SeccompProgram(filter []unix.SockFilter) []byte {
	if len(filter) == 0 {
		return nil
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), len(filter)*8)
	return append([]byte(nil), b...)
}

// DefaultSignals gives every signal its default action and unblocks all of
// them for the calling thread, so that a program to be executed does not
// inherit what a daemon further up had ignored. Go's own handlers go with it:
// call it right before execve only.
func DefaultSignals() {
	// struct sigaction as the kernel has it; larger than on any architecture.
	var action [8]uint64
	for sig := uintptr(1); sig <= 64; sig++ {
		// KILL and STOP answer EINVAL, as they should.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
	var mask uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
}

// PTYPeer opens the slave of the pseudo terminal master fd, without a path.
func PTYPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// Personality sets the execution domain, see personality(2).
func Personality(persona uint64) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, uintptr(persona), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// SetIOPriority sets the I/O priority of one thread: class as ioprio_set(2) has it, level
// 0 to 7.
func SetIOPriority(tid, class, level int) error {
	const whoProcess, classShift = 1, 13
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), uintptr(class<<classShift|level)); errno != 0 {
		return errno
	}
	return nil
}
