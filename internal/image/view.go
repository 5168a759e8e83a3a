package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
)

// OpenImage opens what the image has brought, without what the container has
// written, for reading: a directory, or a mount that nobody else sees.
func (l Layers) OpenImage() (*os.File, error) {
	if len(l.Lower) == 1 {
		return openDirectory(l.Lower[0])
	}
	return l.overlay(mount.OverlayOptions{Attributes: unix.MOUNT_ATTR_RDONLY}, nil)
}

// MountImage is OpenImage as a mount in any case. user, which may be nil, is a
// user namespace by which the owners of files are shown; the caller then is on
// a thread with the filesystem ids of that namespace's root.
func (l Layers) MountImage(user *os.File) (*os.File, error) {
	if len(l.Lower) > 1 {
		return l.overlay(mount.OverlayOptions{Attributes: unix.MOUNT_ATTR_RDONLY}, user)
	}
	dir, err := openDirectory(l.Lower[0])
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	m, err := mapped(dir, user)
	if err != nil {
		return nil, err
	}
	if err := mount.SetAttr(m, mount.Attr{Set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}, mount.Single); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// mapped is a mount of dir with the owners that a user namespace gives them.
func mapped(dir, user *os.File) (*os.File, error) {
	m, err := mount.Clone(dir, mount.Single)
	if err != nil || user == nil {
		return m, err
	}
	if err := mount.IDMap(m, user, mount.Single); err != nil {
		m.Close()
		return nil, fmt.Errorf("id-map %q: %w", dir.Name(), err)
	}
	return m, nil
}

// OpenMerged opens the whole root filesystem as a mount that nobody else sees.
// It may be written to. The container must not run: two mounts of one writable
// layer do not see what the other does.
func (l Layers) OpenMerged() (*os.File, error) {
	upper, err := filepath.Rel(l.Base, l.Upper)
	if err != nil {
		return nil, err
	}
	work, err := filepath.Rel(l.Base, l.Work)
	if err != nil {
		return nil, err
	}
	return l.overlay(mount.OverlayOptions{Upper: upper, Work: work}, nil)
}

func (l Layers) overlay(o mount.OverlayOptions, user *os.File) (*os.File, error) {
	base, err := openDirectory(l.Base)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	o.Base = base
	if user != nil {
		m, err := mapped(base, user)
		if err != nil {
			return nil, err
		}
		defer m.Close()
		o.Base = m
	}
	for _, dir := range l.Lower {
		rel, err := filepath.Rel(l.Base, dir)
		if err != nil {
			return nil, err
		}
		o.Lower = append(o.Lower, rel)
	}
	m, err := mount.Overlay(o)
	if errors.Is(err, mount.ErrNeedsAttached) {
		m, err = l.attached(o, base, user)
	}
	if err != nil {
		return nil, fmt.Errorf("merge layers: %w", err)
	}
	return m, nil
}

// attached is for kernels before 6.7, which take many layers only as paths
// that are short from where they start: the layers' directory is mounted upon
// itself, in a mount namespace that ends with this function, to start there.
func (l Layers) attached(o mount.OverlayOptions, base, user *os.File) (m *os.File, err error) {
	if o.Base, err = mapped(base, user); err != nil {
		return nil, err
	}
	defer o.Base.Close()
	err = ns.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := mount.Propagate("/", unix.MS_PRIVATE); err != nil {
			return err
		}
		m, err = mount.OverlayLegacy(o, l.Base, l.Base)
		return err
	})
	return m, err
}

func openDirectory(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}
