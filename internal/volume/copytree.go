package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/tartree"
)

// copyTree copies all that is in the directory src into dst, and then the
// attributes of src itself. Everything goes by open directories and single
// names with O_NOFOLLOW: no link, old or new, can lead out of either.
func copyTree(ctx context.Context, src, dst *os.File) error {
	c := copier{root: dst, links: make(map[inode]string)}
	return c.dir(ctx, src, dst, "")
}

type inode struct{ dev, ino uint64 }

type copier struct {
	root *os.File
	// links has the first copy, relative to root, of every file with several
	// names.
	links map[inode]string
}

// dir copies the content and then the attributes, as copying content changes
// the times. at is where dst is, below root.
func (c *copier) dir(ctx context.Context, src, dst *os.File, at string) error {
	names, err := tartree.Names(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.entry(ctx, src, dst, name, path.Join(at, name)); err != nil {
			return fmt.Errorf("%s: %w", path.Join(at, name), err)
		}
	}
	return copyAttrs(src, dst)
}

func (c *copier) entry(ctx context.Context, src, dst *os.File, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		done, err := c.link(inode{st.Dev, st.Ino}, dst, name, at)
		if done || err != nil {
			return err
		}
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subdir(ctx, src, dst, name, at)
	case unix.S_IFREG:
		return copyFile(src, dst, name)
	case unix.S_IFLNK:
		return copySymlink(src, dst, name, &st)
	}
	return copyNode(src, dst, name, &st)
}

// link makes a further name of a file that was copied already.
func (c *copier) link(id inode, dst *os.File, name, at string) (done bool, err error) {
	first, ok := c.links[id]
	if !ok {
		c.links[id] = at
		return false, nil
	}
	dir := c.root
	if parent := path.Dir(first); parent != "." {
		fd, err := unix.Openat2(int(c.root.Fd()), parent, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		if err != nil {
			return false, err
		}
		dir = os.NewFile(uintptr(fd), parent)
		defer dir.Close()
	}
	return true, unix.Linkat(int(dir.Fd()), path.Base(first), int(dst.Fd()), name, 0)
}

func (c *copier) subdir(ctx context.Context, src, dst *os.File, name, at string) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	from, err := openDir(int(src.Fd()), name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDir(int(dst.Fd()), name)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(ctx, from, to, at)
}

func copyFile(src, dst *os.File, name string) error {
	from, err := openAt(src, name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(copyData(from, to), copyAttrs(from, to)); err != nil {
		return errors.Join(err, to.Close())
	}
	return to.Close()
}

// copyData copies a file's content and keeps its holes.
func copyData(from, to *os.File) error {
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	for at := int64(0); at < size; {
		start, err := from.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			break
		}
		if err != nil {
			return err
		}
		end, err := from.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(from, to, start, end-start); err != nil {
			return err
		}
		at = end
	}
	return to.Truncate(size)
}

func copyRange(from, to *os.File, start, n int64) error {
	if _, err := from.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := to.Seek(start, io.SeekStart); err != nil {
		return err
	}
	// os.File has the kernel copy (copy_file_range), or share blocks if it can.
	_, err := io.CopyN(to, from, n)
	return err
}

func copySymlink(src, dst *os.File, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name); err != nil {
		return err
	}
	return nodeAttrs(src, dst, name, st)
}

// copyNode copies devices, FIFOs and sockets.
func copyNode(src, dst *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev)); err != nil {
		return err
	}
	if err := nodeAttrs(src, dst, name, st); err != nil {
		return err
	}
	// The umask applied to mknod. The name was made by us just now; should
	// somebody have swapped it for a link, this is refused.
	return unix.Fchmodat(int(dst.Fd()), name, st.Mode&0o7777, 0)
}

// nodeAttrs gives owner, extended attributes and times to what cannot be
// opened without side effects.
func nodeAttrs(src, dst *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(int(dst.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	from, to := procPath(src)+"/"+name, procPath(dst)+"/"+name
	if err := copyXattrs(linkXattrs(from), linkXattrs(to)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(dst.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyAttrs gives dst the owner, extended attributes, mode and times of src.
// The order matters: a change of owner clears set-user-ID bits and file
// capabilities.
func copyAttrs(src, dst *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fchown(int(dst.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dst.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(fileXattrs{src}, fileXattrs{dst}); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(dst), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// procPath names an open file.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// xattrs is a file whose extended attributes can be read or set.
type xattrs interface {
	list(dest []byte) (int, error)
	get(name string, dest []byte) (int, error)
	set(name string, value []byte) error
}

// fileXattrs is an open file.
type fileXattrs struct{ f *os.File }

func (x fileXattrs) list(dest []byte) (int, error) { return unix.Flistxattr(int(x.f.Fd()), dest) }
func (x fileXattrs) get(name string, dest []byte) (int, error) {
	return unix.Fgetxattr(int(x.f.Fd()), name, dest)
}

func (x fileXattrs) set(name string, value []byte) error {
	return unix.Fsetxattr(int(x.f.Fd()), name, value, 0)
}

// linkXattrs is a path whose last element is not followed.
type linkXattrs string

func (x linkXattrs) list(dest []byte) (int, error) { return unix.Llistxattr(string(x), dest) }
func (x linkXattrs) get(name string, dest []byte) (int, error) {
	return unix.Lgetxattr(string(x), name, dest)
}

func (x linkXattrs) set(name string, value []byte) error {
	return unix.Lsetxattr(string(x), name, value, 0)
}

// copyXattrs copies all extended attributes but those that overlay file systems
// keep their own notes in. An SELinux label that the target cannot have is left
// out, as the target's policy decides on it anyway.
func copyXattrs(src, dst xattrs) error {
	names, err := sized(src.list)
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 && err == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return src.get(name, b) })
		if err == nil {
			err = dst.set(name, value)
		}
		if name == "security.selinux" && errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// sized calls fn with a buffer that is large enough.
func sized(fn func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := fn(buf)
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
	}
}

func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
