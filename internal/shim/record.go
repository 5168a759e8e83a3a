package shim

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// ExitFile is the name of the exit record in the state directory.
const ExitFile = "exit.json"

// durability says what an exit record outlives.
type durability bool

const (
	// untilPowerFails is whole for whoever finds it, as long as the machine runs.
	untilPowerFails durability = false
	// onDisk is synced before anybody can find it.
	onDisk durability = true
)

// writeExit makes the exit record: whoever finds the file finds it whole. The
// caller closes the result.
func writeExit(dir *os.File, e wire.Exit, d durability) (*os.File, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode exit record: %w", err)
	}
	const scratch = ExitFile + ".tmp"
	fd, err := unix.Openat(int(dir.Fd()), scratch, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, fmt.Errorf("write exit record: %w", err)
	}
	f := os.NewFile(uintptr(fd), scratch)
	if err := failpoint.Hit("shim.write"); err != nil {
		f.Close()
		return nil, fmt.Errorf("write exit record: %w", err)
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return nil, fmt.Errorf("write exit record: %w", err)
	}
	if d == onDisk {
		if err := unix.Fdatasync(fd); err != nil {
			f.Close()
			return nil, fmt.Errorf("sync exit record: %w", err)
		}
	}
	if err := failpoint.Hit("shim.rename"); err != nil {
		f.Close()
		return nil, fmt.Errorf("publish exit record: %w", err)
	}
	if err := unix.Renameat(int(dir.Fd()), scratch, int(dir.Fd()), ExitFile); err != nil {
		f.Close()
		return nil, fmt.Errorf("publish exit record: %w", err)
	}
	return f, nil
}

// RemoveExit removes the record of an earlier run; there need not be one.
func RemoveExit(dir *os.File) error {
	if err := unix.Unlinkat(int(dir.Fd()), ExitFile, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove old exit record: %w", err)
	}
	return nil
}

// ReadExit reads the exit record in a state directory. The error is
// fs.ErrNotExist if no end was recorded, or the machine stopped before the
// record was on disk: the file is then there, but empty. The directory belongs to the
// container's root, so only a regular file of moderate size is read.
func ReadExit(dir string) (wire.Exit, error) {
	fd, err := unix.Open(dir+"/"+ExitFile, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), ExitFile)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: %w", dir, err)
	}
	if !st.Mode().IsRegular() {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: not a regular file", dir)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: %w", dir, err)
	}
	if len(b) == 0 {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: it is empty: %w", dir, fs.ErrNotExist)
	}
	var e wire.Exit
	if err := json.Unmarshal(b, &e); err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: %w", dir, err)
	}
	return e, nil
}
