package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SeccompCall is struct seccomp_notif: a system call that waits for what its supervisor says.
type SeccompCall struct {
	ID     uint64
	PID    uint32 // of the thread, as the supervisor sees it
	Flags  uint32
	Number int32
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// SeccompAnswer is struct seccomp_notif_resp. With SECCOMP_USER_NOTIF_FLAG_CONTINUE, and no value or error, the kernel does
// the call; otherwise it returns Value, or Error if that is negative.
type SeccompAnswer struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

// SeccompReceive waits for the next call that a filter gives to its listener. ENOENT: its thread has been killed meanwhile.
func SeccompReceive(listener int) (SeccompCall, error) {
	var c SeccompCall
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return SeccompCall{}, errno
	}
	return c, nil
}

// SeccompRespond lets a call go on. ENOENT: nobody waits for it any more.
func SeccompRespond(listener int, a SeccompAnswer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return errno
	}
	return nil
}
