//go:build unix

package copytar

import (
	"archive/tar"
	"errors"
	"io/fs"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileID tells files apart that have several names.
type fileID struct{ dev, ino uint64 }

func sharedFile(info fs.FileInfo) (fileID, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.IsDir() || stat.Nlink < 2 {
		return fileID{}, false
	}
	return fileID{uint64(stat.Dev), stat.Ino}, true //nolint:unconvert // of another type on other systems
}

// device makes a device node or a pipe. It is made by the name in an open
// parent directory, so that it too cannot lie outside.
func (u *unpacker) device(head *tar.Header, name string) error {
	parent, err := u.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	mode := uint32(head.FileInfo().Mode().Perm())
	switch head.Typeflag {
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	default:
		mode |= unix.S_IFIFO
	}
	err = mknodAt(int(parent.Fd()), path.Base(name), mode, unix.Mkdev(uint32(head.Devmajor), uint32(head.Devminor)))
	if errors.Is(err, errNoDevices) {
		return err
	}
	if err != nil {
		return &fs.PathError{Op: "mknod", Path: name, Err: err}
	}
	return u.attributes(head, name)
}
