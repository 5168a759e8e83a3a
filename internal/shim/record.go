package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

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

// roomFile keeps the room that an exit record needs, from the start on: a disk may be full when the container ends, which
// is often why. While it is there it tells by its first line, "run 3", which run of the container has begun and not ended.
const roomFile = ExitFile + ".room"

// exitRoom is its size, a block of most file systems. A record has some hundred bytes.
const exitRoom = 4096

func makeExitRoom(dir *os.File, run int) error {
	f, err := openIn(dir, roomFile, unix.O_CREAT)
	if err == nil {
		defer f.Close()
		err = unix.Fallocate(int(f.Fd()), 0, 0, exitRoom)
		if errors.Is(err, unix.EOPNOTSUPP) {
			_, err = f.Write(make([]byte, exitRoom))
		}
		if err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "run %d\n", run), 0)
		}
	}
	if err != nil {
		return fmt.Errorf("make room for the exit record: %w", err)
	}
	return nil
}

// openIn opens a file in the state directory, which belongs to the container's root, for writing.
func openIn(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|flags, 0o640)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// writeExit makes the exit record: whoever finds the file finds it whole. The
// caller closes the result.
func writeExit(dir *os.File, e wire.Exit, d durability) (*os.File, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode exit record: %w", err)
	}
	b = append(b, '\n')
	const scratch = ExitFile + ".tmp"
	f, err := writeRecord(dir, scratch, unix.O_CREAT|unix.O_TRUNC, b, d)
	if err == nil {
		_ = unix.Unlinkat(int(dir.Fd()), roomFile, 0) // there may be none
		return f, nil
	}
	if room, roomErr := writeRecord(dir, roomFile, 0, b, d); roomErr == nil {
		_ = unix.Unlinkat(int(dir.Fd()), scratch, 0) // or it stays: the next one begins it anew
		return room, nil
	}
	return nil, err
}

// writeRecord writes a file of the name, and then gives it that of the exit record.
func writeRecord(dir *os.File, name string, flags int, b []byte, d durability) (*os.File, error) {
	f, err := openIn(dir, name, flags)
	if err != nil {
		return nil, fmt.Errorf("write exit record: %w", err)
	}
	if err = fillRecord(f, b, d); err == nil {
		if err = unix.Renameat(int(dir.Fd()), name, int(dir.Fd()), ExitFile); err != nil {
			err = fmt.Errorf("publish exit record: %w", err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func fillRecord(f *os.File, b []byte, d durability) error {
	if err := failpoint.Hit("shim.write"); err != nil {
		return fmt.Errorf("write exit record: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("write exit record: %w", err)
	}
	if f.Name() == roomFile {
		if err := f.Truncate(int64(len(b))); err != nil {
			return fmt.Errorf("write exit record: %w", err)
		}
	}
	if d == onDisk {
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("sync exit record: %w", err)
		}
	}
	if err := failpoint.Hit("shim.rename"); err != nil {
		return fmt.Errorf("publish exit record: %w", err)
	}
	return nil
}

// RemoveExit removes the record of an earlier run, and the room of one whose shim was killed; there need not be any.
func RemoveExit(dir *os.File) error {
	for _, name := range []string{ExitFile, roomFile} {
		if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove old exit record: %w", err)
		}
	}
	return nil
}

// ReadBegun reads in a state directory which run has begun and left no exit record, and when. The error is fs.ErrNotExist if
// there is none.
func ReadBegun(dir string) (run int, at time.Time, err error) {
	b, at, err := readRegular(dir, roomFile)
	if err != nil {
		return 0, at, fmt.Errorf("read what began in %q: %w", dir, err)
	}
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	if _, err := fmt.Sscanf(string(line), "run %d", &run); err != nil {
		return 0, at, fmt.Errorf("read what began in %q: %w", dir, fs.ErrNotExist) // the machine stopped before it was on disk
	}
	return run, at, nil
}

// readRegular reads a file in a state directory. That belongs to the container's root, so only a regular file of moderate size
// is read.
func readRegular(dir, name string) ([]byte, time.Time, error) {
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !st.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return b, st.ModTime(), err
}

// ReadExit reads the exit record in a state directory. The error is
// fs.ErrNotExist if no end was recorded, or the machine stopped before the
// record was on disk: the file is then there, but empty.
func ReadExit(dir string) (wire.Exit, error) {
	b, _, err := readRegular(dir, ExitFile)
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
