package image

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
)

// OpenImage opens what the image has brought, without what the container has
// written, for reading: a directory, or a mount that nobody else sees.
func (l Layers) OpenImage() (*os.File, error) {
	if len(l.Lower) == 1 {
		return openDirectory(l.Lower[0])
	}
	return l.overlay(mount.OverlayOptions{Attributes: unix.MOUNT_ATTR_RDONLY})
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
	return l.overlay(mount.OverlayOptions{Upper: upper, Work: work})
}

func (l Layers) overlay(o mount.OverlayOptions) (*os.File, error) {
	base, err := openDirectory(l.Base)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	o.Base = base
	for _, dir := range l.Lower {
		rel, err := filepath.Rel(l.Base, dir)
		if err != nil {
			return nil, err
		}
		o.Lower = append(o.Lower, rel)
	}
	m, err := mount.Overlay(o)
	if err != nil {
		return nil, fmt.Errorf("merge layers: %w", err)
	}
	return m, nil
}

func openDirectory(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}
