package syscalls

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// restarts are the codes by which the kernel tells itself to begin a call again
// after a signal (include/linux/errno.h). Programs never see them, tracers do.
var restarts = map[int64]string{
	512: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
	513: "ERESTARTNOINTR (To be restarted)",
	514: "ERESTARTNOHAND (To be restarted if no handler)",
	516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}

// Result prints what a call has returned: 3, 0x7f00…, -1 ENOENT (No such file or
// directory), or ? for a call that does not return.
func Result(name string, ret int64) string {
	switch {
	case Failed(ret) && restarts[-ret] != "":
		return "? " + restarts[-ret]
	case Failed(ret):
		return "-1 " + Errno(syscall.Errno(-ret)) + " (" + errorText(syscall.Errno(-ret)) + ")"
	}
	switch name {
	case "mmap", "mmap2", "mremap", "brk", "shmat":
		return pointer(uint64(ret))
	case "exit", "exit_group":
		return "?"
	case "umask":
		return fmt.Sprintf("%#o", ret)
	}
	return fmt.Sprint(ret)
}

// Errno is the name of an error number, such as ENOENT.
func Errno(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(e))
}

// errorText is the text of the C library, which begins with a capital.
func errorText(e syscall.Errno) string {
	text := e.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
