package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// shimID names a shim's process beyond its end: a pid alone may be somebody
// else's by now.
type shimID struct {
	PID int `json:"pid"`
	// Start is when it began, in the kernel's ticks since boot.
	Start string `json:"start"`
}

// identify reads when a process began; the zero value if it is gone.
func identify(pid int) shimID {
	start, err := startOf(pid)
	if err != nil {
		return shimID{}
	}
	return shimID{PID: pid, Start: start}
}

// startOf is field 22 of /proc/PID/stat, see proc_pid_stat(5). The name before
// may hold anything, parentheses included.
func startOf(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	const state, start = 3, 22
	f := strings.Fields(rest)
	if len(f) <= start-state || f[0] == "Z" || f[0] == "X" {
		return "", os.ErrProcessDone
	}
	return f[start-state], nil
}

// shimPids are the shims that live for this container: those in its shim group
// on the v2 tree, which is nobody else's. Where there is no such tree all shims
// share a group; then the one that was recorded is looked for.
func (c *Container) shimPids() ([]int, error) {
	dir := c.group.Dir(cgroup.Shim)
	if dir == "" {
		if start, err := startOf(c.shimProcess.PID); err == nil && start == c.shimProcess.Start {
			return []int{c.shimProcess.PID}, nil
		}
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list shims: %w", err)
	}
	var pids []int
	for s := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("list shims: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// shimGrace is for a shim that was told to end, or may do so by itself.
const shimGrace = 2 * time.Second

// killShim makes sure that no shim is left in the container's group. One that
// has not ended after grace is killed.
func (c *Container) killShim(ctx context.Context, grace time.Duration) error {
	begin := time.Now()
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		pids, err := c.shimPids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Since(begin) > grace {
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
					return fmt.Errorf("kill shim %d: %w", pid, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for shims %v to end: %w", pids, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// StartTime is when a process began, in the kernel's ticks since boot: with it a pid
// names a process beyond its end. The error is os.ErrProcessDone for one that has ended
// and waits to be collected, and fs.ErrNotExist for none at all.
func StartTime(pid int) (string, error) { return startOf(pid) }

// IsStage says whether a process is a stage still: it has not executed its program.
func IsStage(pid int) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && strings.HasPrefix(exe, "/memfd:"+sealedName)
}

// sealedName is what the sealed copy of the shim binary is called.
const sealedName = "porthole-shim"
