package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/atomicfile"
)

// lockFile is the file in the data root that the daemon holds a lock on.
const lockFile = "portholed.lock"

// A Hold keeps other daemons off the data root and the pid file.
type Hold struct {
	lock    *os.File
	pidfile string
}

// Claim makes the data root and the exec root and takes hold of them. It fails
// if another daemon has them, and names its pid. The lock goes with the process,
// however that ends.
func Claim(c *Config) (*Hold, error) {
	for _, dir := range []string{c.DataRoot, c.ExecRoot} {
		if err := makeRoot(dir); err != nil {
			return nil, err
		}
	}
	if err := closeRoot(c.DataRoot); err != nil {
		return nil, err
	}
	lock, err := lockRoot(c.DataRoot)
	if err != nil {
		return nil, err
	}
	if err := writePid(c.Pidfile); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Hold{lock: lock, pidfile: c.Pidfile}, nil
}

// makeRoot makes a directory that is root's alone. One that is there is left as it
// is: it may be /run.
func makeRoot(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func lockRoot(root string) (*os.File, error) {
	path := filepath.Join(root, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := os.ReadFile(path)
		_ = f.Close()
		return nil, fmt.Errorf("data root %q is in use by another daemon, pid %s", root, strings.TrimSpace(string(pid)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %q: %w", path, err), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writePid writes the pid file unless a process that it names is a daemon's.
func writePid(path string) error {
	if pid := readPid(path); pid > 0 && pid != os.Getpid() && isDaemon(pid) {
		return fmt.Errorf("process with PID %d is still running: ensure portholed is not running or delete %s", pid, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, fmt.Appendf(nil, "%d", os.Getpid()), 0o644)
}

func readPid(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// isDaemon tells whether a process runs the same program as this one: pids are
// used again, and a leftover file must not keep the daemon from starting.
func isDaemon(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	mine, err := os.Executable()
	if err != nil {
		return false
	}
	return filepath.Base(strings.TrimSuffix(theirs, " (deleted)")) == filepath.Base(mine)
}

// Release removes the pid file and lets go of the data root.
func (h *Hold) Release() error {
	err := os.Remove(h.pidfile)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, h.lock.Close())
}
