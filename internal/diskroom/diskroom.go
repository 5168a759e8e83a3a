// Package diskroom keeps room on a disk for what has to be written when it is full: that something has ended, or that it
// is removed, by which others get room again.
//
// A file system that copies on write (Btrfs, ZFS) may need more than was kept, and one that cannot keep any (NFS before
// 4.2) needs nothing of this.
package diskroom

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// least is how much is taken at once, so that a file that grows page by page does not take room with each.
const least = 256 << 10

// File is one file for which there is room. Its methods must not be called at the same time.
type File struct {
	path string
	room int64 // bytes beyond those in use
	kept int64 // from the beginning of the file
}

// New is for a file that exists when Keep is called, with room bytes beyond those in use.
func New(path string, room int64) *File { return &File{path: path, room: room} }

// Keep takes what is missing, if that is worth it, for a file of which used bytes are in use. The file's size stays. An
// error, as that the disk is full, leaves what was kept before: it is there to be used.
func (f *File) Keep(used int64) error {
	want := used + f.room
	if want < f.kept+least {
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, want)
	if errors.Is(err, unix.EOPNOTSUPP) {
		f.kept = math.MaxInt64 - least // it is not asked again
	} else if err == nil {
		f.kept = want
	}
	if err != nil {
		return fmt.Errorf("keep room for %s: %w", f.path, os.NewSyscallError("fallocate", err))
	}
	return nil
}
