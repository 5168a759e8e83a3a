// Package sys holds the raw system calls and all the unsafe code of Porthole.
//
// Everything here acts on the calling thread only, where the C library and Go's
// syscall package act on the whole process. A caller therefore holds
// runtime.LockOSThread, and ends the thread (by returning from the goroutine
// without unlocking) unless it has restored everything.
package sys
