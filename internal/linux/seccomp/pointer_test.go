package seccomp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pointer passes a program to prctl(2); the real loader is elsewhere.
func pointer(p *unix.SockFprog) uintptr { return uintptr(unsafe.Pointer(p)) }
