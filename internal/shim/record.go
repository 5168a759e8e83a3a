package shim

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// ExitFile is the name of the exit record in the state directory.
const ExitFile = "exit.json"

// writeExit makes the exit record: whoever finds the file finds it whole.
func writeExit(dir *os.File, e wire.Exit) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode exit record: %w", err)
	}
	const scratch = ExitFile + ".tmp"
	fd, err := unix.Openat(int(dir.Fd()), scratch, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return fmt.Errorf("write exit record: %w", err)
	}
	f := os.NewFile(uintptr(fd), scratch)
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write exit record: %w", err)
	}
	if err := unix.Fdatasync(fd); err != nil {
		return fmt.Errorf("sync exit record: %w", err)
	}
	if err := unix.Renameat(int(dir.Fd()), scratch, int(dir.Fd()), ExitFile); err != nil {
		return fmt.Errorf("publish exit record: %w", err)
	}
	return nil
}

// RemoveExit removes the record of an earlier run; there need not be one.
func RemoveExit(dir *os.File) error {
	if err := unix.Unlinkat(int(dir.Fd()), ExitFile, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove old exit record: %w", err)
	}
	return nil
}

// ReadExit reads the exit record in a state directory. The error is
// fs.ErrNotExist if no end was recorded. The directory belongs to the
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
	var e wire.Exit
	if err := json.Unmarshal(b, &e); err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record in %q: %w", dir, err)
	}
	return e, nil
}
