package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
)

// MountAPI tells whether the kernel has mounts as file descriptors: fsopen,
// open_tree, move_mount and mount_setattr.
func MountAPI() error {
	const feature = "mounts as file descriptors"
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLOEXEC)
	switch {
	case err == nil:
		unix.Close(fd)
	case errors.Is(err, unix.ENOSYS):
		return &UnsupportedError{Feature: feature, Since: Version{5, 2}, Detail: "no open_tree"}
	default:
		return fmt.Errorf("ask for open_tree: %w", err)
	}
	// A kernel that knows the call complains of the descriptor.
	err = unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	switch {
	case errors.Is(err, unix.EBADF):
		return nil
	case errors.Is(err, unix.ENOSYS):
		return &UnsupportedError{Feature: feature, Since: Version{5, 12}, Detail: "no mount_setattr"}
	}
	return fmt.Errorf("ask for mount_setattr: unexpected answer: %w", err)
}

// Filesystem tells whether a filesystem type can be mounted. The kernel loads
// its module, if there is one. Needs root.
func Filesystem(name string) error {
	fd, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.ENODEV):
		return &UnsupportedError{Feature: name + " filesystem", Detail: "the kernel has neither it nor a module with it"}
	case errors.Is(err, unix.ENOSYS):
		return &UnsupportedError{Feature: name + " filesystem", Since: Version{5, 2}, Detail: "no fsopen"}
	}
	return fmt.Errorf("ask for filesystem %q: %w", name, err)
}

// LowerdirPlus tells whether an overlay takes its layers one by one, so that
// their paths need not fit into one page. Needs root.
func LowerdirPlus() error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return Filesystem("overlay")
	}
	defer unix.Close(fd)
	err = unix.FsconfigSetString(fd, "lowerdir+", "/")
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{Feature: "overlay option lowerdir+", Since: Version{6, 7}}
	}
	return fmt.Errorf("ask for overlay option lowerdir+: %w", err)
}

// UserNamespaces tells whether this process can make user namespaces, by making
// one. Needs root, because a limit of other users is none of root's.
func UserNamespaces() error {
	user, err := newUserNamespace()
	if err != nil {
		return err
	}
	return user.Close()
}

// IDMapped tells whether what is mounted at a directory can be mounted a second
// time with other ids: files that belong to user 0 on disk show as those of user
// 1000, and the other way round. That depends on the filesystem. Needs root.
func IDMapped(dir string) error {
	user, err := newUserNamespace()
	if err != nil {
		return err
	}
	defer user.Close()
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone mount of %q: %w", dir, err)
	}
	defer unix.Close(fd)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSYS):
		return &UnsupportedError{Feature: "ID-mapped mounts", Since: Version{5, 12}}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return &UnsupportedError{Feature: "ID-mapped mount of " + strconv.Quote(dir), Detail: "its filesystem (" + filesystemOf(dir) + ") cannot do it"}
	}
	return fmt.Errorf("map ids of %q: %w", dir, err)
}

// filesystemOf names the type of the filesystem that a path is on, by its magic
// number where that is all we know.
func filesystemOf(path string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.V9FS_MAGIC: "9p",
		unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.F2FS_SUPER_MAGIC: "f2fs", 0x2fc12fc1: "zfs", 0x00c0ffee: "hostfs",
	}
	if name, ok := names[st.Type]; ok {
		return name
	}
	return fmt.Sprintf("%#x", st.Type)
}

// newUserNamespace makes a user namespace that maps the first 65536 ids to
// others, and opens it.
func newUserNamespace() (*os.File, error) {
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	f, err := ns.NewUser(mapping, mapping)
	if err != nil {
		return nil, explainUserNamespace(err)
	}
	return f, nil
}

func explainUserNamespace(err error) error {
	const feature = "user namespaces"
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		const file = "/proc/sys/user/max_user_namespaces"
		text, _ := os.ReadFile(file)
		return &UnsupportedError{Feature: feature, Detail: "the limit user.max_user_namespaces is " + strings.TrimSpace(string(text))}
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{Feature: feature, Since: Version{3, 8}, Detail: "the kernel is built without CONFIG_USER_NS"}
	case errors.Is(err, unix.EPERM):
		return &UnsupportedError{Feature: feature, Detail: "this process may not make any: it needs root, and to be in no chroot"}
	}
	return err
}
