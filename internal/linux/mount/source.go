package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// PartError says that a part of a mount's source cannot be had.
type PartError struct {
	// Base is the source, Part the path below it.
	Base, Part string
	Err        error // errno; EXDEV: Part leads out of Base
}

// Escapes says whether a link, or "..", leads out of the source.
func (e *PartError) Escapes() bool { return errors.Is(e.Err, unix.EXDEV) }

// Error is in Docker's words.
func (e *PartError) Error() string {
	if e.Escapes() {
		return fmt.Sprintf("path concatenation escapes the base directory, base: %s, subpath: %s", e.Base, e.Part)
	}
	at := filepath.Join(e.Base, e.Part)
	return fmt.Sprintf("cannot access path %s: lstat %s: %v", at, at, e.Err)
}

// Unwrap gives the errno.
func (e *PartError) Unwrap() error { return e.Err }

// OpenSource opens a directory or file of the host, or a part of a directory,
// as an O_PATH file to be mounted from.
//
// The links in name are followed, for it is the host's; the magic ones of
// procfs are not. What is below it may be a container's: part is resolved by
// the kernel beneath what name has led to, and nothing that is swapped
// meanwhile leads out of it. Mount what is returned, not its path. An empty
// part is name itself. The error about a part is a [PartError].
func OpenSource(name, part string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	base := os.NewFile(uintptr(fd), name)
	if part == "" {
		return base, nil
	}
	defer base.Close()
	// Not RESOLVE_IN_ROOT: a link to /etc in a volume would then be a directory
	// of the volume, where Docker says that it leads out.
	fd, err = openat2(fd, part, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &PartError{Base: name, Part: part, Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(name, part)), nil
}
