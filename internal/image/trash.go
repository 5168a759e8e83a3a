package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// emptyTrash removes what is in the trash, in the background and one tree
// after the other. It returns at once.
func (s *Store) emptyTrash() {
	s.later(func() {
		if s.emptyTrashNow() != nil {
			s.sweepLater()
		}
	})
}

func (s *Store) emptyTrashNow() (err error) {
	s.trash.Lock()
	defer s.trash.Unlock()
	defer func() { s.untrashed.Store(err != nil) }()
	entries, err := os.ReadDir(s.trashDir())
	if err != nil {
		s.logger.Warn("list trash", "err", err)
		return err
	}
	var failed []error
	for _, e := range entries {
		if s.stopped.Err() != nil {
			return nil // the next Open goes on
		}
		if err := removeTree(s.stopped, filepath.Join(s.trashDir(), e.Name())); err != nil {
			s.logger.Warn("empty trash", "path", e.Name(), "err", err)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// removeTree removes a directory tree, also one in which a container has made
// files immutable.
func removeTree(ctx context.Context, dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || !(d.IsDir() || d.Type().IsRegular()) {
			return nil //nolint:nilerr // what cannot be reached is reported by RemoveAll
		}
		clearFlags(path)
		return nil
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}

// clearFlags takes the immutable and append-only flags off a file, see
// ioctl_iflags(2). Failure shows when the file cannot be removed.
func clearFlags(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) == 0 {
		return
	}
	_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND))
}
