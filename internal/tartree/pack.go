package tartree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pack writes base, an entry of the open directory dir or "." for dir itself,
// and all that is in it as name. A link is packed as a link. Sockets are left
// out, as no archive can hold them. Times are cut to seconds.
//
// The tree may change meanwhile: what goes is left out, a file that becomes
// shorter is filled up with zeros. The end of the archive is the caller's to
// write.
func Pack(ctx context.Context, w *tar.Writer, dir *os.File, base, name string, ids IDs) error {
	return NewPacker(w, ids).Entry(ctx, dir, base, name)
}

// PackContents packs all that is in the open directory dir, under its own name.
func PackContents(ctx context.Context, w *tar.Writer, dir *os.File, ids IDs) error {
	return NewPacker(w, ids).contents(ctx, dir, "")
}

// Packer packs several entries into one archive, in which files with several
// names are packed once.
type Packer struct {
	w     *tar.Writer
	ids   IDs
	links map[inode]string
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// NewPacker returns a packer to w.
func NewPacker(w *tar.Writer, ids IDs) *Packer {
	return &Packer{w: w, ids: ids, links: map[inode]string{}, buf: make([]byte, 256<<10)}
}

// Entry is [Pack] with this packer.
func (p *Packer) Entry(ctx context.Context, dir *os.File, base, name string) error {
	return p.entry(ctx, dir, base, name, true)
}

// Alone packs an entry without what is in it.
func (p *Packer) Alone(ctx context.Context, dir *os.File, base, name string) error {
	return p.entry(ctx, dir, base, name, false)
}

func (p *Packer) entry(ctx context.Context, dir *os.File, base, name string, deep bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, st, err := look(dir, base)
	if err != nil {
		return &os.PathError{Op: "pack", Path: name, Err: err}
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	head, err := p.header(f, st, name)
	if err != nil {
		return fmt.Errorf("pack %q: %w", name, err)
	}
	if head.Typeflag == tar.TypeReg && head.Size > 0 {
		return p.file(ctx, f, head)
	}
	if err := p.w.WriteHeader(head); err != nil {
		return fmt.Errorf("pack %q: %w", name, err)
	}
	if head.Typeflag == tar.TypeDir && deep {
		return p.contents(ctx, f, strings.TrimSuffix(head.Name, "/")+"/")
	}
	return nil
}

// look opens an entry for nothing but looking at it.
func look(dir *os.File, base string) (*os.File, *unix.Stat_t, error) {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), base)
	st := new(unix.Stat_t)
	if err := unix.Fstat(fd, st); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

func (p *Packer) contents(ctx context.Context, dir *os.File, prefix string) error {
	names, err := Names(dir)
	if err != nil {
		return &os.PathError{Op: "pack", Path: prefix, Err: err}
	}
	for _, n := range names {
		err := p.entry(ctx, dir, n, prefix+n, true)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// Names returns the sorted names in a directory, which may be open for looking
// only.
func Names(dir *os.File) ([]string, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), dir.Name())
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (p *Packer) header(f *os.File, st *unix.Stat_t, name string) (*tar.Header, error) {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(st.Mode & 0o7777),
		Uid: p.ids.inside(st.Uid), Gid: p.ids.inside(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	var err error
	if h.PAXRecords, err = p.ids.readXattrs(procPath(f)); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(name, "/")+"/"
		return h, nil
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readLink(f); err != nil {
			return nil, err
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	p.hardLink(h, st)
	return h, nil
}

// hardLink makes a further name of a file that was packed already a link. It
// keeps the extended attributes: programs that unpack give links an owner once
// more, which takes capabilities away.
func (p *Packer) hardLink(h *tar.Header, st *unix.Stat_t) {
	if st.Nlink < 2 {
		return
	}
	id := inode{st.Dev, st.Ino}
	first, ok := p.links[id]
	if !ok {
		p.links[id] = h.Name
		return
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
}

func readLink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", os.NewSyscallError("readlink", err)
	}
	return string(buf[:n]), nil
}

// file packs a regular file, which is opened by its descriptor: it is the one
// that was looked at.
func (p *Packer) file(ctx context.Context, f *os.File, head *tar.Header) error {
	in, err := os.OpenFile(procPath(f), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("pack %q: %w", head.Name, errors.Unwrap(err))
	}
	defer in.Close()
	if err := p.w.WriteHeader(head); err != nil {
		return fmt.Errorf("pack %q: %w", head.Name, err)
	}
	r := io.MultiReader(in, zeros{})
	left := head.Size
	for left > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.Read(p.buf[:min(int64(len(p.buf)), left)])
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("pack %q: %w", head.Name, err)
		}
		if _, err := p.w.Write(p.buf[:n]); err != nil {
			return fmt.Errorf("pack %q: %w", head.Name, err)
		}
		left -= int64(n)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// procPath names an open file. The link of procfs is followed by the kernel to
// the very file, whatever has become of its name.
func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// clean is a name of an archive below the directory it is unpacked in; "." is
// that directory. It is not ok if the name leads out of it.
func clean(name string) (rel string, ok bool) {
	rel = path.Clean(strings.TrimLeft(name, "/"))
	return rel, rel != ".." && !strings.HasPrefix(rel, "../")
}
