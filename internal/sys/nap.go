package sys

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Nap stops the calling thread for d, at most a few milliseconds, without a word
// to Go's scheduler: where GOMAXPROCS is 1, nothing of the program runs
// meanwhile, and nobody waits in the network poller, so that what happens to its
// descriptors wakes nobody. It may return early.
func Nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0) // EINTR is an early end
}
