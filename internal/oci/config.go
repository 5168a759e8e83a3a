package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/hook"
)

func readConfig(name string) (*specs.Spec, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found", name)
	}
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// loadBundle reads a bundle's document and makes it one that means the same wherever it
// is read: paths are absolute, and what the specification leaves to the runtime is
// written out.
func loadBundle(bundle, id string) (*specs.Spec, error) {
	s, err := readConfig(filepath.Join(bundle, configFile))
	if err != nil {
		return nil, err
	}
	if err := checkVersion(s.Version); err != nil {
		return nil, err
	}
	if err := refuse(s); err != nil {
		return nil, err
	}
	if s.Root == nil {
		return nil, errors.New("root is not set")
	}
	if !filepath.IsAbs(s.Root.Path) {
		s.Root.Path = filepath.Join(bundle, s.Root.Path)
	}
	if s.Root.Path, err = filepath.EvalSymlinks(s.Root.Path); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if info, err := os.Stat(s.Root.Path); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("root %q is not a directory", s.Root.Path)
	}
	if err := mounts(s, bundle); err != nil {
		return nil, err
	}
	if err := checkHooks(s.Hooks); err != nil {
		return nil, err
	}
	if s.Linux == nil {
		return s, nil
	}
	s.Linux.CgroupsPath, err = cgroupsPath(s.Linux.CgroupsPath, id)
	s.Linux.Resources = withDefaultDevices(s.Linux.Resources)
	return s, err
}

// checkVersion refuses what this runtime cannot know.
func checkVersion(v string) error {
	if v == "" {
		return errors.New("ociVersion is not set")
	}
	if major, _, ok := strings.Cut(v, "."); !ok || major != "1" {
		return fmt.Errorf("ociVersion %q is not supported: it is not of the form 1.x.y", v)
	}
	return nil
}

// refuse names what is another system's, or supported nowhere in the runtime. The rest
// is refused by package runtime.
func refuse(s *specs.Spec) error {
	for _, r := range []struct {
		asked bool
		what  string
	}{
		{s.Solaris != nil, "solaris"}, {s.Windows != nil, "windows"}, {s.VM != nil, "vm"}, {s.ZOS != nil, "zos"}, {s.FreeBSD != nil, "freebsd"},
	} {
		if r.asked {
			return fmt.Errorf("%s: not supported, this runtime is for Linux", r.what)
		}
	}
	return nil
}

// mounts makes sources and destinations absolute.
func mounts(s *specs.Spec, bundle string) error {
	for i := range s.Mounts {
		m := &s.Mounts[i]
		o := mount.ParseOptions(m.Options)
		if !path.IsAbs(m.Destination) { // deprecated, and taken as from the root
			m.Destination = path.Join("/", m.Destination)
		}
		if (o.Bind || m.Type == "bind") && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source)
		}
		if o.Bind || m.Type == "bind" {
			source, err := filepath.EvalSymlinks(m.Source)
			if err != nil {
				return fmt.Errorf("mount %q: %w", m.Destination, err)
			}
			m.Source = source
		}
	}
	return nil
}

func checkHooks(h *specs.Hooks) error {
	for _, kind := range hookKinds {
		if err := hook.Check(kind, hooksOf(h, kind)); err != nil {
			return err
		}
	}
	return nil
}

// cgroupsPath is absolute from the root of each hierarchy; a relative one is below
// [Parent].
func cgroupsPath(given, id string) (string, error) {
	switch {
	case given == "":
		return path.Join(Parent, id), nil
	case strings.Count(given, ":") == 2 && !strings.Contains(given, "/"):
		return "", fmt.Errorf("cgroupsPath %q is systemd's form, which is not supported: use a path", given)
	case !path.IsAbs(given):
		clean := path.Join("/", given)
		if clean == "/" {
			return "", fmt.Errorf("cgroupsPath %q names no group", given)
		}
		return path.Join(Parent, clean), nil
	case path.Clean(given) == "/":
		return "", errors.New("cgroupsPath is the root of the hierarchies, which cannot be a container's")
	}
	return path.Clean(given), nil
}

// withDefaultDevices adds to the rules those for the devices that every container has:
// the specification has the runtime supply these, and they are of no use without. A
// document without rules gets no other device.
func withDefaultDevices(r *specs.LinuxResources) *specs.LinuxResources {
	out := specs.LinuxResources{}
	if r != nil {
		out = *r
	}
	rules := slices.Clone(out.Devices)
	if len(rules) == 0 {
		rules = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	}
	for _, d := range []struct {
		kind         string
		major, minor int64 // negative: all
		access       string
	}{
		{"c", -1, -1, "m"},
		{"b", -1, -1, "m"},
		{"c", 1, 3, "rwm"},
		{"c", 1, 5, "rwm"},
		{"c", 1, 7, "rwm"},
		{"c", 1, 8, "rwm"},
		{"c", 1, 9, "rwm"},
		{"c", 5, 0, "rwm"},
		{"c", 5, 1, "rwm"},
		{"c", 5, 2, "rwm"},
		{"c", 136, -1, "rwm"},
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.kind, Major: &d.major, Minor: &d.minor, Access: d.access})
	}
	out.Devices = rules
	return &out
}
