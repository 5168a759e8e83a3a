package tartree

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
)

// Target is where an archive is unpacked.
type Target struct {
	// Root is the directory that no path leads out of.
	Root *os.File
	// Dir is the directory in Root to unpack in. Its links have been resolved.
	Dir string
	// IDs are those of the tree. With a Size, the calling thread's filesystem
	// ids must be Host: new files belong to the container's root at first.
	IDs IDs
	// KeepKinds makes it an error when a directory would have to make way for
	// something else, or something else for a directory.
	KeepKinds bool
	// NoDevices makes a device an error.
	NoDevices bool
	// Owner, unless nil, gets everything, whatever the archive says.
	Owner *Owner
}

// Owner is a user and a group, as the container knows them.
type Owner struct{ UID, GID int }

// Errors of archives that are at fault themselves.
var (
	// ErrOutside is for names that lead out of the directory.
	ErrOutside = errors.New("is outside of the directory")
	// ErrKind is what KeepKinds is about.
	ErrKind = errors.New("cannot overwrite")
	// ErrArchive is for what is no archive, or a broken one.
	ErrArchive = errors.New("invalid archive")
)

// Blames tells that an error of [Unpack] is the archive's fault, or that of what is
// there already, and not one of ours: as a link to nothing, a name that is too long, or a
// file where a directory would have to be.
func Blames(err error) bool {
	return slices.ContainsFunc([]error{
		ErrOutside, ErrKind, ErrArchive, unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG, unix.ELOOP, unix.EXDEV, unix.EMLINK,
	}, func(theirs error) bool { return errors.Is(err, theirs) })
}

// Unpack makes files of an archive, which may be packed with gzip, bzip2, zstd,
// or, if the machine has the program, xz. What is there already is replaced, but directories are merged. Neither
// links of the archive nor those that are there lead out of the root, and
// nothing that is mounted somewhere is replaced. The file that an error, or the
// end of ctx, interrupts is removed; what was unpacked before stays.
func Unpack(ctx context.Context, r io.Reader, t Target) error {
	stream, err := unpacked(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()
	u := unpacker{Target: t}
	defer u.close()
	in := tar.NewReader(contextReader{ctx, stream})
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return archiveError(ctx, err)
		}
		if err := u.entry(head, in); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	// Whoever sends wants to get rid of what follows the end.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return archiveError(ctx, err)
	}
	return u.times()
}

func archiveError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrArchive, err)
}

type contextReader struct {
	ctx context.Context // lives as long as one call
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// unpacked undoes the packing of a stream, which its first bytes tell.
func unpacked(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	switch s := string(magic); {
	case len(s) >= 2 && s[:2] == "\x1f\x8b":
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return z, nil
	case len(s) >= 3 && s[:3] == "BZh":
		return io.NopCloser(bzip2.NewReader(b)), nil
	case strings.HasPrefix(s, "\xfd7zXZ\x00"):
		return unpackXZ(ctx, b)
	case strings.HasPrefix(s, "\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

type unpacker struct {
	Target
	parent     *os.File // the directory opened last
	parentPath string
	stale      bool // parent may be gone
	dirs       []dirTime
}

// dirTime is a directory whose time is set at the end.
type dirTime struct {
	path string
	time time.Time
}

func (u *unpacker) close() {
	if u.parent != nil {
		u.parent.Close()
		u.parent = nil
	}
}

// in opens the directory of an entry and makes it if it is missing.
func (u *unpacker) in(dir string) (*os.File, error) {
	if u.parent != nil && u.parentPath == dir && !u.stale {
		return u.parent, nil
	}
	u.close()
	u.stale = false
	f, err := mount.MkdirAll(u.Root, path.Join(u.Dir, dir), 0o755)
	if err != nil {
		return nil, err
	}
	u.parent, u.parentPath = f, dir
	return f, nil
}

func (u *unpacker) entry(head *tar.Header, data io.Reader) error {
	if head.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	rel, ok := clean(head.Name)
	if !ok {
		return fmt.Errorf("%q %w %q", head.Name, ErrOutside, u.Dir)
	}
	if rel == "." {
		return nil
	}
	dir, err := u.in(path.Dir(rel))
	if err != nil {
		return fmt.Errorf("unpack %q: %w", path.Join(u.Dir, rel), err)
	}
	base := path.Base(rel)
	exists, err := u.makeRoom(dir, base, rel, head.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if err := u.create(dir, base, head, data, exists); err != nil {
		return fmt.Errorf("unpack %q: %w", path.Join(u.Dir, rel), err)
	}
	if head.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, dirTime{rel, head.ModTime})
	}
	return nil
}

// makeRoom removes what is in the way of an entry. It returns true if there is
// a directory that can stay.
func (u *unpacker) makeRoom(dir *os.File, base, rel string, isDir bool) (bool, error) {
	there, err := statEntry(dir, base)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	full := path.Join(u.Dir, rel)
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: full, Err: err}
	}
	if there.isDir && isDir {
		return true, nil
	}
	if u.KeepKinds && there.isDir {
		return false, fmt.Errorf("%w directory %q with non-directory %q", ErrKind, full, u.Dir)
	}
	if u.KeepKinds && isDir {
		return false, fmt.Errorf("%w non-directory %q with directory %q", ErrKind, full, u.Dir)
	}
	if err := removeAll(dir, base); err != nil {
		return false, &os.PathError{Op: "unlinkat", Path: full, Err: err}
	}
	u.stale = true // the directory opened last may be what has gone
	return false, nil
}

type entryInfo struct{ isDir, mounted bool }

// statEntry looks at an entry, and whether something is mounted on it.
func statEntry(dir *os.File, base string) (entryInfo, error) {
	var st unix.Statx_t
	err := unix.Statx(int(dir.Fd()), base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if err != nil {
		return entryInfo{}, err
	}
	return entryInfo{
		isDir:   st.Mode&unix.S_IFMT == unix.S_IFDIR,
		mounted: st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

// removeAll removes an entry and what is in it. The kernel would let a name go
// on which something is mounted in another mount namespace, and the mount with
// it: that is refused here.
func removeAll(dir *os.File, base string) error {
	there, err := statEntry(dir, base)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case there.mounted:
		return unix.EBUSY
	case !there.isDir:
		return ignoreMissing(unix.Unlinkat(int(dir.Fd()), base, 0))
	}
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	sub := os.NewFile(uintptr(fd), base)
	defer sub.Close()
	names, err := Names(sub)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(sub, n); err != nil {
			return err
		}
	}
	return ignoreMissing(unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR))
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (u *unpacker) create(dir *os.File, base string, head *tar.Header, data io.Reader, exists bool) error {
	mode := uint32(head.Mode) & 0o7777
	at := int(dir.Fd())
	var err error
	if u.NoDevices && (head.Typeflag == tar.TypeChar || head.Typeflag == tar.TypeBlock) {
		return fmt.Errorf("%w: it is a device", ErrArchive)
	}
	switch head.Typeflag {
	case tar.TypeDir:
		if !exists {
			err = unix.Mkdirat(at, base, mode)
		}
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have TypeRegA
		err = writeFile(dir, base, data)
	case tar.TypeLink:
		return u.link(dir, base, head.Linkname)
	case tar.TypeSymlink:
		err = unix.Symlinkat(head.Linkname, at, base)
	case tar.TypeFifo:
		err = unix.Mknodat(at, base, unix.S_IFIFO|mode, 0)
	case tar.TypeChar:
		err = unix.Mknodat(at, base, unix.S_IFCHR|mode, int(unix.Mkdev(uint32(head.Devmajor), uint32(head.Devminor))))
	case tar.TypeBlock:
		err = unix.Mknodat(at, base, unix.S_IFBLK|mode, int(unix.Mkdev(uint32(head.Devmajor), uint32(head.Devminor))))
	default:
		return fmt.Errorf("%w: unhandled tar header type %d", ErrArchive, head.Typeflag)
	}
	if errors.Is(err, unix.EPERM) && head.Typeflag == tar.TypeChar && head.Devmajor == 0 && head.Devminor == 0 {
		return fmt.Errorf("%w: it is what overlayfs marks with that a file is gone: %w", ErrArchive, err)
	}
	if err != nil {
		return err
	}
	return u.dress(dir, base, head)
}

func writeFile(dir *os.File, base string, data io.Reader) (err error) {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		err = fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Half a file must not be taken for a whole one.
		err = errors.Join(err, ignoreMissing(unix.Unlinkat(int(dir.Fd()), base, 0)))
	}
	return err
}

// link makes a hard link to something that was unpacked, or was there.
func (u *unpacker) link(dir *os.File, base, target string) error {
	rel, ok := clean(target)
	if !ok {
		return fmt.Errorf("hard link to %q, which %w %q", target, ErrOutside, u.Dir)
	}
	from, err := mount.OpenInRoot(u.Root, path.Join(u.Dir, path.Dir(rel)), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	defer from.Close()
	err = unix.Linkat(int(from.Fd()), path.Base(rel), int(dir.Fd()), base, 0)
	if errors.Is(err, unix.EPERM) {
		if there, statErr := statEntry(from, path.Base(rel)); statErr == nil && there.isDir {
			err = fmt.Errorf("%w: it is a directory", ErrArchive)
		}
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	return nil
}

// dress gives an entry its owner, mode, attributes and time. The order counts:
// a change of owner takes away set-user-ID bits and capabilities.
func (u *unpacker) dress(dir *os.File, base string, head *tar.Header) error {
	f, st, err := look(dir, base)
	if err != nil {
		return err
	}
	defer f.Close()
	uid, gid := head.Uid, head.Gid
	if u.Owner != nil {
		uid, gid = u.Owner.UID, u.Owner.GID
	}
	fd := int(f.Fd())
	if err := unix.Fchownat(fd, "", u.IDs.outside(uid), u.IDs.outside(gid), unix.AT_EMPTY_PATH); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(procPath(f), uint32(head.Mode)&0o7777); err != nil {
			return os.NewSyscallError("chmod", err)
		}
		if err := u.IDs.writeXattrs(procPath(f), head.PAXRecords); err != nil {
			return err
		}
	}
	return setTime(f, head.ModTime)
}

func setTime(f *os.File, t time.Time) error {
	if t.IsZero() || t.Unix() < 0 {
		return nil
	}
	at, err := unix.TimeToTimespec(t) // also what is too late for nanoseconds in 64 bits
	if err != nil {
		return err
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, at}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH); err != nil {
		return os.NewSyscallError("utimensat", err)
	}
	return nil
}

// times sets the times of directories, when nothing changes in them any more. Of
// several entries for one the last counts.
func (u *unpacker) times() error {
	for _, d := range u.dirs {
		f, err := mount.OpenInRoot(u.Root, path.Join(u.Dir, d.path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
		if err != nil {
			continue // replaced or removed meanwhile
		}
		err = setTime(f, d.time)
		f.Close()
		if err != nil {
			return fmt.Errorf("unpack %q: %w", path.Join(u.Dir, d.path), err)
		}
	}
	return nil
}
