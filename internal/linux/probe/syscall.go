package probe

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccomp calls seccomp(2) with an operation that takes one number.
func seccomp(operation uintptr, argument *uint32) error {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, operation, 0, uintptr(unsafe.Pointer(argument)))
	if errno != 0 {
		return errno
	}
	return nil
}
