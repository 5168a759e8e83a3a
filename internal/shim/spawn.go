package shim

import (
	"fmt"
	"os"

	"github.com/portholehq/porthole/internal/racing"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// spawn starts another shim in this one's user namespace, for a container that
// joins namespaces of this one. The new shim is on its own: the two share
// nothing but the namespace, and either may end first.
func (s *Server) spawn(c *call) (any, error) {
	var spec wire.SpawnSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	path := s.cfg.Executable
	if spec.Executable {
		exe, err := c.take(1)
		if err != nil {
			return nil, fmt.Errorf("spawn: %w", err)
		}
		defer closeFiles(exe)
		path = fmt.Sprintf("/proc/self/fd/%d", exe[0].Fd())
	}
	given, err := c.take(3)
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	defer closeFiles(given)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	defer null.Close()
	files := append([]*os.File{null, null, racing.Stderr(null)}, given...)
	pid, pidfd, err := startSession(path, s.cfg.ServeArgs, append(childEnv(), spec.Env...), files)
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	go func() {
		defer pidfd.Close()
		if _, err := reap(pid, pidfd); err != nil {
			s.note(err)
		}
	}()
	return wire.Created{PID: pid}, nil
}
