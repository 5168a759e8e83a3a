package sys

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DropCapabilities takes capabilities, bit n for capability n, out of the effective and permitted sets of all threads of
// this process, for good. The bounding set stays: a program that is executed by root has them again, see capabilities(7).
// What the process lacks anyway is passed over. In a program with cgo it is unix.ENOTSUP.
func DropCapabilities(drop uint64) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := new([2]unix.CapUserData)
	if err := unix.Capget(header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for i := range data {
		word := uint32(drop >> (32 * i))
		data[i].Effective &^= word
		data[i].Permitted &^= word
	}
	header.Pid = 0 // the thread that calls, as each of them does
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(header)
	runtime.KeepAlive(data)
	if errno != 0 {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}
