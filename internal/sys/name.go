package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetName sets the name of the calling thread, which for the main thread is
// what ps shows (comm). It is cut at 15 bytes.
func SetName(name string) error {
	var b [16]byte // TASK_COMM_LEN
	copy(b[:len(b)-1], name)
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
}
