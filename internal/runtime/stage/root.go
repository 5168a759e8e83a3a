package stage

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// attachRoot puts the container's root on top of "/". The process keeps looking
// at the old root below it until pivot.
func (s *stage) attachRoot(st *plan.Step) error {
	s.root = s.files[st.File]
	if st.Path != "" {
		// Where hooks look for it. Who is nobody on the host may not get there.
		if at, err := mount.OpenSource(st.Path, ""); err == nil {
			defer at.Close()
			return mount.Move(s.root, at, "")
		}
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	old := os.NewFile(uintptr(fd), "/")
	defer old.Close()
	return mount.Move(s.root, old, "")
}

// pivot makes the container's root the process's and lets go of everything
// else. With "." for both arguments the old root ends up on top of the new one,
// from where it is unmounted: no directory for it is needed. See pivot_root(2).
func (s *stage) pivot() error {
	if err := unix.Fchdir(int(s.root.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return &os.PathError{Op: "chdir", Path: "/", Err: err}
	}
	s.pivoted = true
	return nil
}

// procTargets may be covered although they are in procfs: containers are given
// their own view of them, by lxcfs for one. The list is runc's.
var procTargets = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

func (s *stage) mount(m *plan.Mount) error {
	if err := s.mountAt(m); err != nil {
		source := m.Describe
		if source == "" {
			source = m.Source
		}
		return fmt.Errorf("error mounting %q to rootfs at %q: %w", source, m.Target, err)
	}
	return nil
}

func (s *stage) mountAt(m *plan.Mount) error {
	if m.FS == "proc" || m.FS == "sysfs" {
		if err := s.ordinaryDirectory(m); err != nil {
			return err
		}
	}
	found, err := mount.OpenInRoot(s.root, m.Target, unix.O_PATH, 0)
	existed := err == nil
	if existed {
		found.Close()
	}
	target, err := mount.Target(s.root, m.Target, m.IsFile)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := refuseProc(target, m.Target); err != nil {
		return err
	}
	f, err := s.source(m, target, existed)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := mount.Move(f, target, ""); err != nil {
		return err
	}
	return mount.SetAttr(f, mount.Attr{Propagation: m.Propagation}, mount.Single)
}

// ordinaryDirectory refuses procfs or sysfs behind a symbolic link of the image:
// the container could turn the link later and leave masks where they are of no
// use.
func (s *stage) ordinaryDirectory(m *plan.Mount) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(s.root.Fd()), m.Target, &how)
	if err == unix.ELOOP {
		return fmt.Errorf("filesystem %q must be mounted on ordinary directory", m.FS)
	}
	if err == nil {
		unix.Close(fd)
	}
	return nil
}

// source is the detached mount, as it came or newly made.
func (s *stage) source(m *plan.Mount, target *os.File, existed bool) (*os.File, error) {
	if m.FS == "" {
		return s.files[m.File], nil
	}
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == plan.OptionCopyUp })
	up := len(options) < len(m.Options)
	hasMode := slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "mode=") })
	if m.FS == "tmpfs" && existed && !hasMode {
		// A tmpfs on a directory of the image takes over its mode.
		var st unix.Stat_t
		if err := unix.Fstat(int(target.Fd()), &st); err != nil {
			return nil, os.NewSyscallError("fstat", err)
		}
		options = append(slices.Clip(options), fmt.Sprintf("mode=%o", st.Mode&0o7777))
	}
	readOnly := m.Attributes & unix.MOUNT_ATTR_RDONLY
	if !up || !existed {
		return mount.New(m.FS, m.Source, options, m.Attributes)
	}
	f, err := mount.New(m.FS, m.Source, options, m.Attributes&^readOnly)
	if err != nil {
		return nil, err
	}
	if err = copyUp(int(target.Fd()), int(f.Fd()), 0); err == nil {
		err = mount.SetAttr(f, mount.Attr{Set: readOnly}, mount.Single)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("copy what is there: %w", err)
	}
	return f, nil
}

// refuseProc keeps mounts out of procfs, however the target's path got there: a
// container could be shown a false /proc, on which then masks and read-only
// paths would be spent.
func refuseProc(target *os.File, name string) error {
	onProc, err := isFS(target, unix.PROC_SUPER_MAGIC)
	if err != nil {
		return err
	}
	if onProc && !slices.Contains(procTargets, path.Clean(name)) {
		return fmt.Errorf("%q cannot be mounted because it is inside /proc", name)
	}
	return nil
}

func isFS(f *os.File, magic int64) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return int64(st.Type) == magic, nil //nolint:unconvert // of another type on other machines
}

func (s *stage) directory(name string) error {
	d, err := mount.MkdirAll(s.root, name, 0o755)
	if err != nil {
		return err
	}
	return d.Close()
}

func (s *stage) symlink(name, value string) error {
	dir, err := mount.MkdirAll(s.root, path.Dir(name), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(value, int(dir.Fd()), path.Base(name)); err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

func (s *stage) node(n *plan.Node) error {
	dir, err := mount.MkdirAll(s.root, path.Dir(n.Path), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	base, fd := path.Base(n.Path), int(dir.Fd())
	dev := unix.Mkdev(n.Major, n.Minor)
	err = unix.Mknodat(fd, base, n.Mode, int(dev))
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: n.Path, Err: err}
		}
		if st.Mode&unix.S_IFMT != n.Mode&unix.S_IFMT || st.Rdev != dev {
			return &os.PathError{Op: "mknod", Path: n.Path, Err: unix.EEXIST}
		}
	} else if err != nil {
		return &os.PathError{Op: "mknod", Path: n.Path, Err: err}
	}
	if err := unix.Fchownat(fd, base, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "chown", Path: n.Path, Err: err}
	}
	return nil
}

// mask hides what is at name.
func (s *stage) mask(name string) error {
	target, err := mount.OpenInRoot(s.root, name, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	var cover *os.File
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		cover, err = s.emptyDir()
	} else {
		cover, err = s.null()
	}
	if err != nil {
		return fmt.Errorf("mask %q: %w", name, err)
	}
	if err := mount.Move(cover, target, ""); err != nil {
		return fmt.Errorf("mask %q: %w", name, err)
	}
	if s.maskDir == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.maskDir = cover
		return nil
	}
	return cover.Close()
}

// emptyDir is a mount of an empty read-only directory. All of them are one filesystem.
func (s *stage) emptyDir() (*os.File, error) {
	if s.maskDir != nil {
		return mount.Clone(s.maskDir, mount.Single)
	}
	return mount.New("tmpfs", "tmpfs", []string{"mode=755", "nr_inodes=1"}, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// null is a mount of the host's /dev/null, taken while the host's tree is still
// in sight: an image or volume cannot put something else in its place.
func (s *stage) null() (*os.File, error) {
	if s.pivoted {
		return nil, errors.New("the null device is out of sight")
	}
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
	}
	f := os.NewFile(uintptr(fd), "/dev/null")
	defer f.Close()
	return mount.Clone(f, mount.Single)
}

// readonlyPath puts a read-only view of name, and of what is mounted below, on top of it.
func (s *stage) readonlyPath(name string) error {
	target, err := mount.OpenInRoot(s.root, name, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	view, err := mount.Clone(target, mount.Recursive)
	if err == nil {
		defer view.Close()
		err = mount.SetAttr(view, mount.Attr{Set: unix.MOUNT_ATTR_RDONLY}, mount.Recursive)
	}
	if err == nil {
		err = mount.Move(view, target, "")
	}
	if err != nil {
		return fmt.Errorf("make %q read-only: %w", name, err)
	}
	return nil
}

// sysctl writes a kernel parameter. That the file is one of procfs is checked:
// a volume on /proc would otherwise take the value and nobody would know.
func (s *stage) sysctl(name, value string) error {
	file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	f, err := mount.OpenInRoot(s.root, file, unix.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("set sysctl %s: %w", name, err)
	}
	defer f.Close()
	if ok, err := isFS(f, unix.PROC_SUPER_MAGIC); err != nil || !ok {
		return fmt.Errorf("set sysctl %s: %q is not in procfs", name, file)
	}
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("set sysctl %s to %q: %w", name, value, err)
	}
	return nil
}

// attributes changes the mount at a path of the container.
func (s *stage) attributes(st *plan.Step) error {
	target, err := mount.OpenInRoot(s.root, st.Path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	return mount.SetAttr(target, mount.Attr{Set: st.Flags}, mount.Single)
}
