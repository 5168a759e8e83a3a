package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/tartree"
)

// CopyUp fills the volume with what is in the directory path below root, an
// open directory: the merged root filesystem of a container that has not
// started. Symbolic links on the way are followed as the container would, never
// out of root. The volume's directory takes over owner, mode and extended
// attributes.
//
// As with Docker nothing happens, and that is no error, when the volume has
// content or when path is not a directory of the image. Of several calls for one
// volume the first fills it, while the others wait. A copy that fails or is
// cancelled leaves the volume empty.
func (s *Store) CopyUp(ctx context.Context, name string, root *os.File, path string) error {
	s.mu.Lock()
	m, ok := s.volumes[name]
	s.mu.Unlock()
	if !ok {
		return noSuchVolume(name)
	}
	src, err := openBelow(root, path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy %s of the image to volume %s: %w", path, name, err)
	}
	defer src.Close()
	return s.mounts.with(name, func(map[string]bool) error {
		dst, err := openDir(unix.AT_FDCWD, s.data(name))
		if err != nil {
			return fmt.Errorf("copy to volume %s: %w", name, err)
		}
		defer dst.Close()
		if empty, err := isEmpty(dst); err != nil || !empty {
			return err
		}
		return s.fill(ctx, m, src, dst)
	})
}

// fill copies between two notes in volume.json, so that a crash is noticed.
func (s *Store) fill(ctx context.Context, m meta, src, dst *os.File) error {
	if empty, err := isEmpty(src); err != nil {
		return err
	} else if empty {
		return copyAttrs(src, dst)
	}
	if err := s.mark(m); err != nil {
		return fmt.Errorf("note that volume %s is filled: %w", m.Name, err)
	}
	err := copyTree(ctx, src, dst)
	if err == nil {
		err = failpoint.Hit("volume.fill")
	}
	if err == nil {
		err = unix.Syncfs(int(dst.Fd()))
	}
	if err == nil {
		err = s.unmark(m)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy to volume %s: %w", m.Name, err), s.empty(m))
	}
	return nil
}

// filled is what volume.json is replaced by when the volume is full. It is
// written beforehand: then the copy may have taken the last room on the disk,
// and a note that stayed would have the next [Open] throw the data away.
const filled = "volume.json.filled"

// mark notes that the volume is being filled.
func (s *Store) mark(m meta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.root, m.Name)
	m.Filling = false
	err := writeSynced(filepath.Join(dir, filled), m)
	if err == nil {
		m.Filling = true
		err = writeMeta(dir, m)
	}
	if err != nil {
		if e := os.Remove(filepath.Join(dir, filled)); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// unmark takes the note away.
func (s *Store) unmark(m meta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.root, m.Name)
	err := os.Rename(filepath.Join(dir, filled), filepath.Join(dir, metaFile))
	if errors.Is(err, os.ErrNotExist) { // done already, or marked by an older daemon
		m.Filling = false
		return writeMeta(dir, m)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// openBelow opens a directory as seen by a process whose root is root.
func openBelow(root *os.File, path string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func isEmpty(dir *os.File) (bool, error) {
	names, err := tartree.Names(dir)
	return len(names) == 0, err
}
