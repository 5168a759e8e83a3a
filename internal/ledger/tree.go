package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the descriptors that a walk holds, one for each level. What lies deeper is not measured but counted.
const maxDepth = 1024

// blockUnit is the unit of st_blocks, see stat(2), whatever the file system's block is.
const blockUnit = 512

// Size is what a directory tree occupies. A file with several names in the tree counts once.
type Size struct {
	// Disk is the bytes that are allocated, those of directories included, as `du` counts.
	Disk int64
	// Apparent is the sum of the sizes of all files but directories, as Docker counts.
	Apparent int64
	// Unread is the number of directories that could not be looked into.
	Unread int
	// Mounts is the number of places where another file system is mounted; what is in there is not counted.
	Mounts int
}

func (s *Size) add(o Size) {
	s.Disk += o.Disk
	s.Apparent += o.Apparent
	s.Unread += o.Unread
	s.Mounts += o.Mounts
}

// Tree measures what is at path, a directory or another file, without following links and without leaving its file
// system. Files that go meanwhile are left out; that path itself is missing is fs.ErrNotExist.
func Tree(ctx context.Context, path string) (Size, error) {
	st, err := status(unix.AT_FDCWD, path)
	if err != nil {
		return Size{}, fmt.Errorf("measure %q: %w", path, err)
	}
	w := walk{ctx: ctx, dev: device(st), linked: map[uint64]bool{}}
	w.count(st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := w.dir(unix.AT_FDCWD, path, 1); err != nil {
			return Size{}, fmt.Errorf("measure %q: %w", path, err)
		}
	}
	return w.size, nil
}

// status is lstat(2) that takes from remote file systems what is known of them already: a mount in the way that hangs
// does not hang the caller.
func status(dir int, name string) (*unix.Statx_t, error) {
	var st unix.Statx_t
	const want = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, want, &st)
	return &st, err
}

func device(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

type walk struct {
	ctx    context.Context
	dev    uint64
	linked map[uint64]bool // inodes with several names that were counted
	size   Size
}

func (w *walk) count(st *unix.Statx_t) {
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !dir && st.Nlink > 1 {
		if w.linked[st.Ino] {
			return
		}
		w.linked[st.Ino] = true
	}
	w.size.Disk += int64(st.Blocks) * blockUnit
	if !dir {
		w.size.Apparent += int64(st.Size)
	}
}

// dir adds what is in a directory, by descriptors so that no depth makes a path too long.
func (w *walk) dir(parent int, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if depth > maxDepth {
		w.size.Unread++
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // it went, or something else has come in its place
	}
	if err != nil {
		w.size.Unread++
		return nil
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.size.Unread++
	}
	for _, e := range entries {
		if err := w.entry(fd, e.Name(), depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(dir int, name string, depth int) error {
	st, err := status(dir, name)
	if err != nil {
		return nil //nolint:nilerr // it went meanwhile
	}
	if device(st) != w.dev {
		w.size.Mounts++
		return nil
	}
	w.count(st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.dir(dir, name, depth+1)
	}
	return nil
}
