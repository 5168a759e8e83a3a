package diagnose

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
)

// Info is what [Root.Stat] tells.
type Info struct {
	Mode     fs.FileMode
	UID, GID uint32 // as the container sees them
	Size     int64
	NoExec   bool // it is on a mount with noexec
	ReadOnly bool // it is on a mount that is read-only
}

// Root is a root filesystem. Names are absolute; links are followed and never
// lead out. A name that does not exist gives an error that is fs.ErrNotExist.
type Root interface {
	Stat(name string) (Info, error)
	// Open opens a regular file; of anything else it is an error.
	Open(name string) (File, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.Closer
}

// dir is a Root that is an open directory.
type dir struct {
	top   *os.File
	owner func(id uint32) uint32
}

// Dir makes an open directory a Root. Owner turns an id of the filesystem into
// the container's; nil: they are the same. The caller closes top.
func Dir(top *os.File, owner func(id uint32) uint32) Root {
	if owner == nil {
		owner = func(id uint32) uint32 { return id }
	}
	return &dir{top, owner}
}

func (d *dir) Stat(name string) (Info, error) {
	f, err := mount.OpenInRoot(d.top, name, unix.O_PATH, 0)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	return d.stat(f)
}

func (d *dir) stat(f *os.File) (Info, error) {
	fi, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &sfs); err != nil {
		return Info{}, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return Info{
		Mode: fi.Mode(), UID: d.owner(st.Uid), GID: d.owner(st.Gid), Size: st.Size,
		NoExec: sfs.Flags&unix.ST_NOEXEC != 0, ReadOnly: sfs.Flags&unix.ST_RDONLY != 0,
	}, nil
}

// Open takes regular files only, and waits for nobody; nor does it wait for what
// some regular files of a /proc that was mounted in have yet to say.
func (d *dir) Open(name string) (File, error) {
	f, err := mount.OpenRegular(d.top, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// readHead reads at most n bytes of a file's beginning.
func readHead(r Root, name string, n int) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return buf[:got], err
}
