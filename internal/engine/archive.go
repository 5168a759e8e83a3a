package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/account"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/tartree"
)

// ContainerStatPath looks at a path in a container, which may run or not. A link is looked at itself, unless path ends in
// a slash; what it leads to is told.
func (e *Engine) ContainerStatPath(ctx context.Context, ref, name string) (container.PathStat, error) {
	c, done, err := e.operate(ctx, "copy", ref)
	if err != nil {
		return container.PathStat{}, err
	}
	defer done()
	f, err := e.openFS(ctx, c, fsUse{verb: "cp"})
	if err != nil {
		return container.PathStat{}, err
	}
	defer f.Close()
	st, err := f.lstat(name)
	return st, pathError(err, name, ref)
}

// ContainerArchive packs a path of a container, with all that is in it, as tar. open is called once it is known that
// there is something to pack, and gives the writer.
func (e *Engine) ContainerArchive(ctx context.Context, ref, name string, open func(container.PathStat) (io.Writer, error)) error {
	c, done, err := e.operate(ctx, "copy", ref)
	if err != nil {
		return err
	}
	defer done()
	f, err := e.openFS(ctx, c, fsUse{verb: "cp"})
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.lstat(name)
	if err != nil {
		return pathError(err, name, ref)
	}
	source := absolute(name)
	base := "."
	if !st.Mode.IsDir() {
		source, base = path.Dir(source), path.Base(source)
	}
	dir, err := mount.OpenInRoot(f.root, source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return pathError(err, name, ref)
	}
	defer dir.Close()
	w, err := open(st)
	if err != nil {
		return err
	}
	e.emit(ctx, c.view(), events.ActionArchivePath, nil)
	archive := tar.NewWriter(w)
	if err := tartree.Pack(ctx, archive, dir, base, st.Name, f.ids); err != nil {
		return fmt.Errorf("copy %s from container %s: %w", name, c.id, err)
	}
	return archive.Close()
}

// ExtractOptions belong to [Engine.ContainerExtract].
type ExtractOptions struct {
	// KeepKinds makes it an error to replace a directory by something else, or something else by a directory.
	KeepKinds bool
	// ToUser gives all files to the user that the container was created for, if that was said.
	ToUser bool
}

// ContainerExtract unpacks a tar archive, packed or not, into a directory of a container, which may run or not.
func (e *Engine) ContainerExtract(ctx context.Context, ref, name string, archive io.Reader, o ExtractOptions) error {
	c, done, err := e.operate(ctx, "copy", ref)
	if err != nil {
		return err
	}
	defer done()
	f, err := e.openFS(ctx, c, fsUse{verb: "cp", write: true})
	if err != nil {
		return err
	}
	defer f.Close()
	dir, err := f.extractionPoint(c.view(), name)
	if err != nil {
		return pathError(err, name, ref)
	}
	target := tartree.Target{Root: f.root, Dir: dir, IDs: f.ids, KeepKinds: o.KeepKinds}
	if o.ToUser {
		if target.Owner, err = f.owner(c.view().Config.User); err != nil {
			return err
		}
	}
	err = f.as(func() error { return tartree.Unpack(ctx, archive, target) })
	if errors.Is(err, unix.EROFS) && e.fullDisk() != "" {
		err = unix.ENOSPC // overlayfs could not make its work directory, and is read-only for that
	}
	if err != nil {
		return unpackError(err, c.id)
	}
	e.emit(ctx, c.view(), events.ActionExtractToDir, nil)
	return nil
}

// unpackError tells what is wrong with an archive from what went wrong with us.
func unpackError(err error, id string) error {
	if tartree.Blames(err) {
		return invalid("%v", err)
	}
	return fmt.Errorf("copy to container %s: %w", id, err)
}

// extractionPoint finds the directory to unpack in and tells whether that is allowed.
func (f *containerFS) extractionPoint(v *view, name string) (string, error) {
	point, err := mount.OpenInRoot(f.root, absolute(name), unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer point.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(point.Fd()), &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", invalid("extraction point is not a directory")
	}
	dir, err := pathOf(point)
	if err != nil {
		return "", err
	}
	for i := len(v.Mounts) - 1; i >= 0; i-- { // the innermost first
		m := v.Mounts[i]
		if dir != m.Destination && !strings.HasPrefix(dir, m.Destination+"/") {
			continue
		}
		if !m.RW {
			return "", invalid("mounted volume is marked read-only")
		}
		return dir, nil
	}
	if v.HostConfig.ReadonlyRootfs {
		return "", invalid("container rootfs is marked read-only")
	}
	return dir, nil
}

// maxAccounts is how many bytes of a container's /etc/passwd or /etc/group are looked through for a user.
const maxAccounts = 16 << 20

// owner finds a container's user by the container's own files, which may be anything. Without one it is nil.
func (f *containerFS) owner(spec string) (*tartree.Owner, error) {
	if spec == "" {
		return nil, nil
	}
	open := func(name string) io.ReadCloser {
		file, err := mount.OpenRegular(f.root, name)
		if err != nil {
			return io.NopCloser(strings.NewReader(""))
		}
		return file
	}
	passwd, group := open("/etc/passwd"), open("/etc/group")
	defer passwd.Close()
	defer group.Close()
	u, err := account.Find(spec, nil, io.LimitReader(passwd, maxAccounts), io.LimitReader(group, maxAccounts))
	if err != nil {
		return nil, invalid("find user %q of the container: %v", spec, err)
	}
	return &tartree.Owner{UID: u.Uid, GID: u.Gid}, nil
}

// pathError words what is wrong with a path as Docker does. That no path can be
// written like that is the client's fault.
func pathError(err error, name, ref string) error {
	var at *os.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notFound("Could not find the file %s in container %s", name, ref)
	case errors.As(err, &at) && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENAMETOOLONG)):
		return invalid("lstat %s: %v", absolute(name), at.Err)
	case errors.As(err, &at):
		return internal("lstat %s: %v", absolute(name), at.Err)
	}
	return err
}

// absolute cleans a path but for a slash or a dot at its end, which have a meaning.
func absolute(name string) string {
	clean := path.Join("/", name)
	switch {
	case name == "." || strings.HasSuffix(name, "/."):
		return strings.TrimSuffix(clean, "/") + "/."
	case strings.HasSuffix(name, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

func (f *containerFS) lstat(name string) (container.PathStat, error) {
	at := absolute(name)
	file, err := mount.OpenInRoot(f.root, at, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return container.PathStat{}, err
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return container.PathStat{}, &os.PathError{Op: "stat", Path: at, Err: err}
	}
	out := container.PathStat{Name: path.Base(at), Size: st.Size, Mode: fileMode(st.Mode), Mtime: time.Unix(st.Mtim.Unix())}
	if out.Mode&fs.ModeSymlink == 0 {
		return out, nil
	}
	if out.LinkTarget, err = f.follow(at, file); err != nil {
		return container.PathStat{}, err
	}
	return out, nil
}

// follow tells where a link leads: to the end if there is something, else as far as it says itself.
func (f *containerFS) follow(at string, link *os.File) (string, error) {
	if end, err := mount.OpenInRoot(f.root, at, unix.O_PATH, 0); err == nil {
		defer end.Close()
		return pathOf(end)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(link.Fd()), "", buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: at, Err: err}
	}
	target := string(buf[:n])
	if path.IsAbs(target) {
		return path.Clean(target), nil
	}
	dir := path.Dir(at)
	if parent, err := mount.OpenInRoot(f.root, dir, unix.O_PATH, 0); err == nil {
		defer parent.Close()
		if dir, err = pathOf(parent); err != nil {
			return "", err
		}
	}
	return path.Join(dir, target), nil
}

// pathOf is the path of an open file in the detached mounts that it is in.
func pathOf(file *os.File) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}

// fileMode brings a mode into Go's form, which is what the API has.
func fileMode(mode uint32) fs.FileMode {
	out := fs.FileMode(mode & 0o777)
	for _, b := range []struct {
		bit uint32
		is  fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			out |= b.is
		}
	}
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		out |= fs.ModeDir
	case syscall.S_IFLNK:
		out |= fs.ModeSymlink
	case syscall.S_IFBLK:
		out |= fs.ModeDevice
	case syscall.S_IFCHR:
		out |= fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFIFO:
		out |= fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		out |= fs.ModeSocket
	}
	return out
}

// ContainerExport packs a container's root filesystem, without what is mounted in it, as tar. open is as for
// [Engine.ContainerArchive].
func (e *Engine) ContainerExport(ctx context.Context, ref string, open func() (io.Writer, error)) error {
	c, done, err := e.operate(ctx, "export", ref)
	if err != nil {
		return err
	}
	defer done()
	if err := notGoing(c.view(), "export"); err != nil {
		return err
	}
	f, err := e.openFS(ctx, c, fsUse{verb: "export", bare: true})
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := open()
	if err != nil {
		return err
	}
	e.emit(ctx, c.view(), events.ActionExport, nil)
	archive := tar.NewWriter(w)
	if err := tartree.PackContents(ctx, archive, f.root, f.ids); err != nil {
		return fmt.Errorf("export container %s: %w", c.id, err)
	}
	return archive.Close()
}

// notGoing refuses a verb for a container whose removal has begun.
func notGoing(v *view, verb string) error {
	switch {
	case v.status() == container.StateDead:
		return conflict("You cannot %s container %s which is Dead", verb, v.ID)
	case v.removing || v.status() == container.StateRemoving:
		return conflict("You cannot %s container %s which is being removed", verb, v.ID)
	}
	return nil
}
