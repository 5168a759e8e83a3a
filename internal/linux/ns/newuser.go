package ns

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// NewUser makes a user namespace with these mappings, in which there is no
// process, and opens it: for mounts to show owners by. The process that it takes
// is this program once more, stopped before its first instruction, and gone when
// this returns. Needs root.
func NewUser(uids, gids []syscall.SysProcIDMap) (*os.File, error) {
	// A process is traced by a thread, and ends with its tracer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"porthole-namespace"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: uids, GidMappings: gids, Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		_ = p.Kill()
		_, _ = p.Wait()
	}()
	f, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	return f, nil
}
