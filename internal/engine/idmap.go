package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	mobymount "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/probe"
)

// mapper finds out what can be mounted into a container with a user namespace of its own, by trying it on a mount that
// nobody sees.
type mapper struct {
	once   sync.Once
	userns *os.File
	err    error // of making one
}

// ready makes the user namespace to try with.
func (m *mapper) ready() error {
	m.once.Do(func() { m.userns, m.err = probe.NewUserNamespace() })
	return m.err
}

func (m *mapper) close() {
	if m.userns != nil {
		m.userns.Close()
	}
}

// try maps a clone of what is mounted at path.
func (m *mapper) try(path string, scope mount.Scope) error {
	if err := m.ready(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	clone, err := mount.Clone(f, scope)
	if err != nil {
		return err
	}
	defer clone.Close()
	return mount.IDMap(clone, m.userns, scope)
}

// unmappable tells why a container with these mounts cannot have a user namespace of its own; empty: it can.
func (e *Engine) unmappable(mounts []state.Mount) string {
	if e.noMapping != nil {
		return e.noMapping.Error()
	}
	for _, m := range mounts {
		if m.Type == mobymount.TypeVolume {
			if err := e.tryVolume(m); err != nil {
				return fmt.Sprintf("volume %s, which is mounted at %s, cannot be ID-mapped: %v", m.Name, m.Destination, err)
			}
		}
		if m.Type != mobymount.TypeBind {
			continue
		}
		if m.Propagation == mobymount.PropagationShared || m.Propagation == mobymount.PropagationRShared {
			return fmt.Sprintf("the mount at %s is shared with the host", m.Destination)
		}
		if err := e.mapper.tryBind(m); err != nil {
			return fmt.Sprintf("%s, which is mounted at %s, cannot be ID-mapped: %v", m.Source, m.Destination, err)
		}
	}
	return ""
}

// tryVolume looks at a volume with driver options; all others are on the filesystem of the data root. What cannot be
// mounted, or is of a kind that a volume which does not exist yet has to tell, is for the start to complain of.
func (e *Engine) tryVolume(m state.Mount) error {
	options := m.VolumeOptions
	info, err := e.deps.Volumes.Get(m.Name)
	if err == nil {
		options = info.Options
	}
	if len(options) == 0 {
		return nil
	}
	if slices.ContainsFunc(strings.Split(options["o"], ","), func(o string) bool { return o == "bind" || o == "rbind" }) {
		return e.mapper.tryBind(state.Mount{Source: options["device"]})
	}
	if err != nil {
		return nil // it does not exist yet
	}
	user := "try-" + randomID()
	defer func() { _, _ = e.deps.Volumes.Unmount(m.Name, user) }() // it is tried again with the next use
	if e.deps.Volumes.Mount(m.Name, user) != nil {
		return nil
	}
	return e.mapper.try(info.Path, mount.Single)
}

// tryBind looks at the source of a bind mount, or where it will be made.
func (m *mapper) tryBind(b state.Mount) error {
	switch info, err := os.Stat(b.Source); {
	case errors.Is(err, fs.ErrNotExist):
		return m.try(existing(b.Source), mount.Single)
	case err != nil:
		return err
	case info.Mode()&fs.ModeDevice != 0:
		return nil // a node's own filesystem does not matter, devices are mounted as they are
	}
	return m.try(b.Source, mount.Scope(!b.NonRecursive))
}

// existing is the nearest ancestor of a path that exists.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}
