package applet

import (
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys"
)

// fromRegisters tells of a call by a thread's registers. A call that 32-bit code
// makes cannot be told from others so.
func fromRegisters(pid int, entered bool) (sys.SyscallStop, error) {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &r); err != nil {
		return sys.SyscallStop{}, err
	}
	if entered {
		return sys.SyscallStop{Op: unix.PTRACE_SYSCALL_INFO_EXIT, Return: int64(r.Rax)}, nil
	}
	return sys.SyscallStop{
		Op: unix.PTRACE_SYSCALL_INFO_ENTRY, Arch: unix.AUDIT_ARCH_X86_64, Number: r.Orig_rax,
		Args: [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9},
	}, nil
}
