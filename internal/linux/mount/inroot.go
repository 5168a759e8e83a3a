package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// retries bounds how often openat2 is asked again when it saw a concurrent
// rename and could not tell whether ".." was safe (EAGAIN).
const retries = 64

// OpenInRoot opens name as a process whose root directory is root would: no
// symbolic link, no ".." and no magic link of procfs leads out of root. Flags
// are those of open(2), O_CLOEXEC is added.
func OpenInRoot(root *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := openInRoot(int(root.Fd()), name, flags, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ErrNotRegular is of [OpenRegular].
var ErrNotRegular = errors.New("not a regular file")

// OpenRegular opens a file for reading as [OpenInRoot] does, and nothing but a
// regular file: for a device node or a pipe the mere opening can have an effect,
// or last for ever. It does not wait for a lease on the file (fcntl(2),
// F_SETLEASE) to be given up either, which is an error then.
func OpenRegular(root *os.File, name string) (*os.File, error) {
	node, err := OpenInRoot(root, name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	if info, err := node.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.Join(err, ErrNotRegular)}
	}
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", node.Fd()), unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

func openInRoot(root int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	return openat2(root, name, &how)
}

// openat2 asks again, some times, when the tree is changed meanwhile.
func openat2(dir int, name string, how *unix.OpenHow) (int, error) {
	var err error
	for range retries {
		var fd int
		fd, err = unix.Openat2(dir, name, how)
		if err == nil {
			return fd, nil
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return -1, err
		}
	}
	return -1, err
}

// Target opens name in root as the place for a mount: a file if isFile, a
// directory otherwise. What is missing is made, directories with mode 0755. It
// is an error if something of the wrong kind is there.
func Target(root *os.File, name string, isFile bool) (*os.File, error) {
	f, err := OpenInRoot(root, name, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) {
		f, err = makeTarget(root, name, isFile)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; isDir == isFile {
		f.Close()
		return nil, &os.PathError{Op: "mount", Path: name, Err: unix.ENOTDIR}
	}
	return f, nil
}

func makeTarget(root *os.File, name string, isFile bool) (*os.File, error) {
	if !isFile {
		return MkdirAll(root, name, 0o755)
	}
	dir, err := MkdirAll(root, path.Dir(path.Join("/", name)), 0o755)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	base := path.Base(name)
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(fd)
	} else if !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	// A dangling link, which the first look took for missing, ends here.
	return OpenInRoot(root, name, unix.O_PATH, 0)
}

// MkdirAll opens the directory name in root and makes what is missing of it.
func MkdirAll(root *os.File, name string, mode uint32) (*os.File, error) {
	if f, err := OpenInRoot(root, name, unix.O_PATH|unix.O_DIRECTORY, 0); !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	done := "/"
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		parent, err := OpenInRoot(root, done, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		err = unix.Mkdirat(int(parent.Fd()), part, mode)
		parent.Close()
		done = path.Join(done, part)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &os.PathError{Op: "mkdir", Path: done, Err: err}
		}
	}
	f, err := OpenInRoot(root, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open new directory: %w", err)
	}
	return f, nil
}
