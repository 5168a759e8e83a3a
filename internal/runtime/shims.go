package runtime

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"path/filepath"
	"strconv"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// shimPids are the processes in the container's shim group: the shim, and
// others that it has spawned for containers that join this one.
func (c *Container) shimPids() ([]int, error) {
	dir := c.group.Dir(cgroup.Shim)
	if dir == "" {
		hierarchies := c.r.tree.Hierarchies()
		if len(hierarchies) == 0 {
			return nil, nil
		}
		dir = filepath.Join(hierarchies[0].Dir, c.group.Path(), string(cgroup.Shim))
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list shims: %w", err)
	}
	var pids []int
	for _, s := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("list shims: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// killShim makes sure that no shim is left in the container's group. One that
// was told to end gets a moment for it.
func (c *Container) killShim(ctx context.Context) error {
	begin := time.Now()
	const grace = 2 * time.Second
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
