// Package layers reads the unpacked layers of an image beside each other: what
// each has, what of it later layers hide, and which of them wrote a path.
//
// A layer is a directory in the form of overlayfs: a character device 0/0 says
// that a name is gone, and trusted.overlay.opaque at a directory that nothing of
// the layers below it is seen through. Layers are numbered from 0, the lowest.
package layers

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Stack are the open layers of an image, the lowest first.
type Stack []*os.Root

// Open opens directories, the lowest first. The caller closes the stack.
func Open(dirs []string) (Stack, error) {
	var s Stack
	for _, d := range dirs {
		r, err := os.OpenRoot(d)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open layer %d: %w", len(s), err)
		}
		s = append(s, r)
	}
	return s, nil
}

// Close closes all layers.
func (s Stack) Close() {
	for _, r := range s {
		r.Close()
	}
}

// isMissing tells that a layer has nothing at a path.
func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

func kind(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

func isDir(st *unix.Stat_t) bool { return kind(st) == unix.S_IFDIR }

// isOpaqueAt tells that a directory of a layer hides what the layers below have in
// it.
func isOpaqueAt(r *os.Root, at string) (bool, error) {
	dir, err := openDir(r, at)
	if err != nil || dir == nil {
		return false, err
	}
	defer dir.Close()
	notes, err := ReadNotes(dir)
	if err != nil {
		return false, &os.PathError{Op: "read", Path: at, Err: err}
	}
	if notes.Redirected {
		return false, fmt.Errorf("directory %s has been renamed by reference (overlayfs's redirect_dir), which cannot be followed", at)
	}
	return notes.Opaque, nil
}

// openDir opens a directory of a layer for reading; nil: there is none.
func openDir(r *os.Root, at string) (*os.File, error) {
	f, err := r.OpenFile(rel(at), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if isMissing(err) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	return f, err
}

// rel is an absolute path as a root takes it.
func rel(at string) string {
	if at == "/" {
		return "."
	}
	return at[1:]
}
