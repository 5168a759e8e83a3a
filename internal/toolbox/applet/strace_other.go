//go:build !amd64

package applet

import (
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys"
)

// fromRegisters is for kernels of amd64 that have no PTRACE_GET_SYSCALL_INFO.
func fromRegisters(int, bool) (sys.SyscallStop, error) { return sys.SyscallStop{}, unix.ENOTSUP }
