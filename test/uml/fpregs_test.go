package uml

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys"
)

// hasAMX tells whether the processor has tile registers. With them the state
// that ptrace sets has become larger than the kernel of the machine thinks, which
// then ends in a panic before its first process.
func hasAMX() (bool, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false, err
	}
	return strings.Contains(string(text), " amx_tile"), nil
}

// withoutExtendedState calls start on a thread whose children cannot ask for
// the extended state of a process: the kernel of the machine then keeps to the
// registers that all processors have. What is above them is lost when processes
// of one address space take turns, so the programs inside must not use it, see
// init.sh.
func withoutExtendedState(start func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and the filter with it
		if err := refuseExtendedState(); err != nil {
			done <- err
			return
		}
		done <- start()
	}()
	return <-done
}

// refuseExtendedState makes ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE) fail
// for the calling thread and its children.
func refuseExtendedState() error {
	const (
		offsetNumber, offsetArch, offsetRequest, offsetKind = 0, 4, 16, 32 // in struct seccomp_data
		load, equal, give                                   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		ntX86XState                                         = 0x202
	)
	filter := []unix.SockFilter{
		{Code: load, K: offsetArch},
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jf: 7},
		{Code: load, K: offsetNumber},
		{Code: equal, K: unix.SYS_PTRACE, Jf: 5},
		{Code: load, K: offsetRequest},
		{Code: equal, K: unix.PTRACE_GETREGSET, Jf: 3},
		{Code: load, K: offsetKind},
		{Code: equal, K: ntX86XState, Jf: 1},
		{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
	}
	if _, err := sys.Seccomp(sys.SeccompProgram(filter), 0); err != nil {
		return fmt.Errorf("filter ptrace: %w", err)
	}
	return nil
}

