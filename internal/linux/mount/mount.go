package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Scope says whether an operation is about one mount or also about those below it.
type Scope bool

// The scopes.
const (
	Single    Scope = false
	Recursive Scope = true
)

func (s Scope) flag() uint {
	if s == Recursive {
		return unix.AT_RECURSIVE
	}
	return 0
}

// Clone makes a detached mount that shows the directory or file that f (which
// may be an O_PATH file) refers to.
func Clone(f *os.File, scope Scope) (*os.File, error) {
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|scope.flag())
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// New makes a filesystem and a detached mount of it. Source is what the mount
// table shows; options are the filesystem's own, "key=value" or "flag";
// attributes are MOUNT_ATTR_*. What the filesystem says about a wrong option is
// part of the error.
func New(fstype, source string, options []string, attributes uint64) (*os.File, error) {
	c, err := open(fstype)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if source != "" {
		if err := c.set("source", source); err != nil {
			return nil, err
		}
	}
	for _, o := range options {
		if key, value, ok := strings.Cut(o, "="); ok {
			err = c.set(key, value)
		} else {
			err = c.flag(key)
		}
		if err != nil {
			return nil, err
		}
	}
	return c.mount(attributes)
}

// context is a filesystem that is being configured.
type context struct {
	fd     int
	fstype string
}

func open(fstype string) (*context, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %q: %w", fstype, err)
	}
	return &context{fd: fd, fstype: fstype}, nil
}

func (c *context) Close() { unix.Close(c.fd) }

func (c *context) set(key, value string) error {
	if err := unix.FsconfigSetString(c.fd, key, value); err != nil {
		return c.explain(fmt.Errorf("set %s=%s on %s: %w", key, value, c.fstype, err))
	}
	return nil
}

func (c *context) flag(key string) error {
	if err := unix.FsconfigSetFlag(c.fd, key); err != nil {
		return c.explain(fmt.Errorf("set %s on %s: %w", key, c.fstype, err))
	}
	return nil
}

func (c *context) create() error {
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return c.explain(fmt.Errorf("create %s: %w", c.fstype, err))
	}
	return nil
}

func (c *context) mount(attributes uint64) (*os.File, error) {
	if err := c.create(); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, int(attributes))
	if err != nil {
		return nil, c.explain(fmt.Errorf("fsmount %s: %w", c.fstype, err))
	}
	return os.NewFile(uintptr(fd), c.fstype), nil
}

// explain adds what the filesystem wrote into the context's log: one message
// for each read, "e overlay: No changes allowed in reconfigure".
func (c *context) explain(err error) error {
	var notes []string
	buf := make([]byte, 1024)
	for range 8 {
		n, rerr := unix.Read(c.fd, buf)
		if rerr != nil || n <= 0 {
			break
		}
		line := string(bytes.TrimSpace(buf[:n]))
		if kind, text, ok := strings.Cut(line, " "); ok && len(kind) == 1 {
			line = text
		}
		notes = append(notes, line)
	}
	if len(notes) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(notes, "; "))
}

// Attr changes a mount. The zero value changes nothing.
type Attr struct {
	// Set and Clear are MOUNT_ATTR_*. To choose a kind of atime, Clear must
	// hold MOUNT_ATTR__ATIME.
	Set, Clear uint64
	// Propagation is MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
	Propagation uint64
}

// SetAttr changes the mount m, which may be detached.
func SetAttr(m *os.File, a Attr, scope Scope) error {
	if a == (Attr{}) {
		return nil
	}
	attr := unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear, Propagation: a.Propagation}
	if err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH|scope.flag(), &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return nil
}

// Propagate sets the propagation of everything mounted at and below path.
func Propagate(path string, propagation uint64) error {
	attr := unix.MountAttr{Propagation: propagation}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set propagation of %q: %w", path, err)
	}
	return nil
}

// ErrNotMappable is wrapped by IDMap's errors when the filesystem or the kernel
// cannot do it.
var ErrNotMappable = errors.New("filesystem cannot be id-mapped")

// IDMap makes the detached mount m show owners through the user namespace
// userns: what belongs to 0 on disk belongs to that namespace's root.
func IDMap(m, userns *os.File, scope Scope) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH|scope.flag(), &attr)
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.EPERM, unix.EOPNOTSUPP:
		// EINVAL: the filesystem has no support; EPERM: it is mapped already or
		// belongs to another user namespace. See mount_setattr(2).
		return fmt.Errorf("%w: mount_setattr: %w", ErrNotMappable, err)
	}
	return os.NewSyscallError("mount_setattr", err)
}

// Move attaches the detached mount m at name below dir; an empty name is dir itself.
func Move(m, dir *os.File, name string) error {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	if err := unix.MoveMount(int(m.Fd()), "", int(dir.Fd()), name, flags); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return nil
}
