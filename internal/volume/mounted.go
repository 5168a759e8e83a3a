package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/portholehq/porthole/internal/linux/holders"
)

// Options of the local driver: a volume that is mounted from somewhere while
// containers use it.
const (
	optionType   = "type"   // of the file system, or "none" for a bind
	optionDevice = "device" // or directory, or ":/export"
	optionMount  = "o"      // as mount(8) has them
)

// required tells which options an option needs beside it.
var required = map[string][]string{
	optionDevice: {optionType},
	optionType:   {optionDevice},
	optionMount:  {optionDevice, optionType},
}

// checkOptions refuses, with Docker's words, what the local driver cannot do.
func checkOptions(options map[string]string) error {
	invalid := func(format string, args ...any) error {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if key == "size" {
			return invalid("quota size requested but no quota support")
		}
		needs, known := required[key]
		if !known {
			return invalid("invalid option: %q", key)
		}
		for _, other := range needs {
			if _, given := options[other]; !given {
				return invalid("missing required option: %q", other)
			}
		}
	}
	return nil
}

// Mount makes sure that a volume with options is mounted, for user, which is a
// container's ID. Others are always there. The caller calls [Store.Unmount] in
// the end; a second Mount for the same user changes nothing.
func (s *Store) Mount(name, user string) error {
	m, err := s.find(name)
	if err != nil || len(m.Options) == 0 {
		return err
	}
	return s.mounts.with(name, func(users map[string]bool) error {
		mounted, err := mountinfo.Mounted(s.data(name))
		if err != nil {
			return fmt.Errorf("mount volume %s: %w", name, err)
		}
		if !mounted {
			if err := s.mount(m); err != nil {
				return err
			}
		}
		users[user] = true
		return nil
	})
}

// Hold notes that a container that outlived its daemon uses a volume, which is
// mounted for it already.
func (s *Store) Hold(name, user string) {
	_ = s.mounts.with(name, func(users map[string]bool) error { // no error to speak of
		users[user] = true
		return nil
	})
}

// mount mounts a volume as its options say.
func (s *Store) mount(m meta) error {
	device, kind, options := m.Options[optionDevice], m.Options[optionType], m.Options[optionMount]
	resolved, err := resolveAddress(kind, options)
	if err == nil {
		// A slow server holds up this container alone.
		err = mount.Mount(device, s.data(m.Name), kind, resolved)
	}
	if err == nil {
		return nil
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return fmt.Errorf("error while mounting volume '%s': failed to mount local volume: mount %s:%s, flags: %s: %w",
		s.data(m.Name), device, s.data(m.Name), password.ReplaceAllString(options, "$1$2=********"), err)
}

// password finds the secrets in mount options, see mount.cifs(8).
var password = regexp.MustCompile(`(^|,)(password2?|pass)=[^,]*`)

// resolveAddress replaces a name in "addr=NAME" by its address: the kernel
// resolves none.
func resolveAddress(kind, options string) (string, error) {
	if kind != "nfs" && kind != "nfs4" && kind != "cifs" {
		return options, nil
	}
	parts := strings.Split(options, ",")
	for i, o := range parts {
		host, ok := strings.CutPrefix(o, "addr=")
		if !ok {
			continue
		}
		ip, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		parts[i] = "addr=" + ip.String()
	}
	return strings.Join(parts, ","), nil
}

// Unmount ends the use of a volume by user, and unmounts it with its last. What
// other processes still have open there keeps nobody from anything: the volume is
// detached, and those that were found are returned and logged. Its file system
// lives on until they have let it go.
func (s *Store) Unmount(name, user string) (held []holders.Holder, err error) {
	m, err := s.find(name)
	if errdefs.IsNotFound(err) || err == nil && len(m.Options) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = s.mounts.with(name, func(users map[string]bool) error {
		delete(users, user)
		if len(users) > 0 {
			return nil
		}
		held, err = s.unmount(name)
		return err
	})
	return held, err
}

func (s *Store) unmount(name string) (held []holders.Holder, err error) {
	mounted, err := mountinfo.Mounted(s.data(name))
	busy := false
	if err == nil && mounted {
		held, busy, err = holders.Unmount(context.Background(), s.data(name))
	}
	if err != nil {
		return nil, fmt.Errorf("unmount volume %s: %w", name, err)
	}
	if busy {
		s.log.Warn("volume is in use by others than containers: it was detached, and is unmounted when they let it go", "volume", name, "held_by", holders.Text(held))
	}
	return held, nil
}

// UnmountUnused unmounts what no container uses any more: an earlier daemon did
// not live to do it.
func (s *Store) UnmountUnused() error {
	var failures []error
	for _, v := range s.List() {
		if len(v.Options) == 0 {
			continue
		}
		failures = append(failures, s.mounts.with(v.Name, func(users map[string]bool) error {
			if len(users) > 0 {
				return nil
			}
			_, err := s.unmount(v.Name)
			return err
		}))
	}
	return errors.Join(failures...)
}

func (s *Store) find(name string) (meta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.volumes[name]
	if !ok {
		return meta{}, noSuchVolume(name)
	}
	return m, nil
}
