// Package mount is the kernel's newer mount interface: a mount is a file
// descriptor that is made, changed and ID-mapped while it is attached nowhere,
// and then put in its place.
//
//	m, err := mount.Clone(source, mount.Recursive)      // a bind mount
//	err = mount.SetAttr(m, mount.Attr{Set: unix.MOUNT_ATTR_RDONLY})
//	err = mount.IDMap(m, userns, mount.Single)
//
//	m, err := mount.New("tmpfs", "shm", []string{"size=64m"}, unix.MOUNT_ATTR_NOSUID)
//	m, err := mount.Overlay(mount.OverlayOptions{...})
//
//	err = mount.Move(m, dir, "")
//
// A detached mount goes away with its last descriptor, so that there is nothing
// to unmount when something fails. Needs Linux 5.12 (mount_setattr).
//
// Paths that a container could have arranged are opened with [OpenInRoot].
package mount
