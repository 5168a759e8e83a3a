package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// mountPlan collects the mounts of a container that is being created, by destination.
type mountPlan struct {
	mounts map[string]state.Mount
	from   func(ref string) (*view, error) // finds the containers of --volumes-from
}

// planMounts reads every place where a request names mounts and checks them. Nothing is made yet: volumes get a name,
// but their source is still empty.
func planMounts(c *container.Config, h *container.HostConfig, find func(ref string) (*view, error)) ([]state.Mount, error) {
	p := mountPlan{mounts: map[string]state.Mount{}, from: find}
	for _, spec := range h.VolumesFrom {
		if err := p.volumesFrom(spec); err != nil {
			return nil, err
		}
	}
	given := map[string]bool{} // destinations that the request itself names: twice is a mistake
	add := func(m state.Mount) error {
		if given[m.Destination] {
			return invalid("Duplicate mount point: %s", m.Destination)
		}
		given[m.Destination] = true
		p.mounts[m.Destination] = m
		return nil
	}
	for _, bind := range h.Binds {
		m, err := parseBind(bind, h.VolumeDriver)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, spec := range h.Mounts {
		m, err := parseMount(spec)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for dst, options := range h.Tmpfs {
		m, err := parseTmpfs(dst, options)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := p.anonymous(c); err != nil {
		return nil, err
	}
	return p.sorted(), nil
}

// sorted puts parents in front of what is mounted below them.
func (p *mountPlan) sorted() []state.Mount {
	list := make([]state.Mount, 0, len(p.mounts))
	for _, m := range p.mounts {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b state.Mount) int {
		if n := strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/"); n != 0 {
			return n
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	return list
}

// anonymous adds volumes for the paths that the image or the request declares (-v /data) and nothing else covers.
func (p *mountPlan) anonymous(c *container.Config) error {
	for dst := range c.Volumes {
		clean, err := destination(dst, dst, mount.TypeVolume)
		if err != nil {
			return err
		}
		if _, covered := p.mounts[clean]; covered {
			continue
		}
		p.mounts[clean] = state.Mount{Type: mount.TypeVolume, Name: randomID(), Destination: clean, Driver: "local", RW: true, Anonymous: true, CopyUp: true}
	}
	return nil
}

func (p *mountPlan) volumesFrom(spec string) error {
	if spec == "" {
		return invalid("volumes-from specification cannot be an empty string")
	}
	ref, mode, _ := strings.Cut(spec, ":")
	if ref == "" {
		return invalid("invalid name or ID supplied: %q", ref)
	}
	switch mode {
	case "", "rw", "ro", "z", "Z", "ro,z", "ro,Z", "rw,z", "rw,Z":
	default:
		return invalid("invalid mode: %s", mode)
	}
	v, err := p.from(ref)
	if err != nil {
		return cannotJoin(err)
	}
	for _, m := range v.Mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		m.RW = m.RW && !strings.HasPrefix(mode, "ro")
		m.CopyUp, m.Mode = false, ""
		p.mounts[m.Destination] = m
	}
	return nil
}

// destination checks and cleans a path inside the container.
func destination(dst, spec string, typ mount.Type) (string, error) {
	if !path.IsAbs(dst) {
		return "", specError(spec, typ, "invalid mount path: '%s' mount path must be absolute", dst)
	}
	clean := path.Clean(dst)
	if clean == "/" {
		return "", specError(spec, typ, "invalid specification: destination can't be '/'")
	}
	return clean, nil
}

// specError says what is wrong with a -v.
func specError(spec string, typ mount.Type, format string, args ...any) error {
	return invalid("invalid volume specification: '%s': invalid mount config for type %q: %s", spec, typ, fmt.Sprintf(format, args...))
}

// parseBind reads -v's [SOURCE:]DESTINATION[:OPTIONS].
func parseBind(spec, driver string) (state.Mount, error) {
	parts := strings.Split(spec, ":")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return state.Mount{}, invalid("invalid volume specification: '%s'", spec)
	}
	m := state.Mount{RW: true}
	source, mode := "", ""
	switch len(parts) {
	case 1:
		m.Destination = parts[0]
	case 2:
		source, m.Destination = parts[0], parts[1]
	case 3:
		source, m.Destination, mode = parts[0], parts[1], parts[2]
	}
	err := setSource(&m, source, driver)
	if err == nil {
		m.Destination, err = destination(m.Destination, spec, m.Type)
	}
	if err == nil {
		err = bindOptions(&m, mode, spec)
	}
	if err != nil {
		return state.Mount{}, err
	}
	return m, nil
}

// setSource decides between a host path, a named and an anonymous volume.
func setSource(m *state.Mount, source, driver string) error {
	if driver == "" {
		driver = "local"
	}
	switch {
	case source == "":
		m.Type, m.Name, m.Driver, m.Anonymous, m.CopyUp = mount.TypeVolume, randomID(), driver, true, true
	case path.IsAbs(source):
		m.Type, m.Source = mount.TypeBind, path.Clean(source)
		m.Propagation = mount.PropagationRPrivate
		m.MakeSource = true
	case volumeName.MatchString(source):
		m.Type, m.Name, m.Driver, m.CopyUp = mount.TypeVolume, source, driver, true
	default:
		return invalid("create %s: %q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path",
			source, source, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	return nil
}

// bindOptions reads the third part of -v. Each kind of option may come once.
func bindOptions(m *state.Mount, mode, spec string) error {
	m.Mode = mode
	if mode == "" {
		m.Mode = unsaidMode(m)
		return nil
	}
	seen := map[string]bool{}
	for o := range strings.SplitSeq(mode, ",") {
		kind := "access"
		switch o {
		case "rw", "ro":
			m.RW = o == "rw"
		case "rro":
			m.RW, m.ReadOnlyForce = false, true
		case "z", "Z":
			kind = "label"
		case "nocopy":
			kind = "copy"
			if m.Type != mount.TypeVolume {
				return specError(spec, m.Type, "field VolumeOptions must not be specified")
			}
			m.CopyUp = false
		case "idmap":
			kind = "idmap"
			m.SwapOwner = true
		case "consistent", "cached", "delegated", "default":
			kind = "consistency"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			kind = "propagation"
			if m.Type != mount.TypeBind {
				return specError(spec, m.Type, "field BindOptions must not be specified")
			}
			m.Propagation = mount.Propagation(o)
		default:
			return invalid("invalid mode: %s", mode)
		}
		if seen[kind] {
			return invalid("invalid mode: %s", mode)
		}
		seen[kind] = true
	}
	return nil
}

// unsaidMode is what inspect has for a mount without options: Docker shares named volumes, as far as SELinux goes.
func unsaidMode(m *state.Mount) string {
	if m.Type == mount.TypeVolume && !m.Anonymous {
		return "z"
	}
	return ""
}

func mountError(m mount.Mount, format string, args ...any) error {
	return invalid("invalid mount config for type %q: %s", m.Type, fmt.Sprintf(format, args...))
}

// parseMount reads one of --mount's.
func parseMount(spec mount.Mount) (state.Mount, error) {
	if spec.Target == "" {
		return state.Mount{}, mountError(spec, "field Target must not be empty")
	}
	if !path.IsAbs(spec.Target) {
		return state.Mount{}, mountError(spec, "invalid mount path: '%s' mount path must be absolute", spec.Target)
	}
	if path.Clean(spec.Target) == "/" {
		return state.Mount{}, mountError(spec, "invalid specification: destination can't be '/'")
	}
	m := state.Mount{Type: spec.Type, Destination: path.Clean(spec.Target), RW: !spec.ReadOnly}
	if err := foreignOptions(spec); err != nil {
		return state.Mount{}, err
	}
	var err error
	switch spec.Type {
	case mount.TypeBind:
		err = bindMount(&m, spec)
	case mount.TypeVolume:
		err = volumeMount(&m, spec)
	case mount.TypeTmpfs:
		err = tmpfsMount(&m, spec)
	case mount.TypeImage:
		err = imageMount(&m, spec)
	default: // also those of Swarm and of Windows
		err = mountError(spec, "mount type unknown")
	}
	return m, err
}

// foreignOptions refuses options of another type than the mount's.
func foreignOptions(spec mount.Mount) error {
	for _, o := range []struct {
		field string
		typ   mount.Type
		set   bool
	}{
		{"BindOptions", mount.TypeBind, spec.BindOptions != nil},
		{"VolumeOptions", mount.TypeVolume, spec.VolumeOptions != nil},
		{"TmpfsOptions", mount.TypeTmpfs, spec.TmpfsOptions != nil},
		{"ImageOptions", mount.TypeImage, spec.ImageOptions != nil},
	} {
		if o.set && o.typ != spec.Type {
			return mountError(spec, "field %s must not be specified", o.field)
		}
	}
	return nil
}

func bindMount(m *state.Mount, spec mount.Mount) error {
	if spec.Source == "" {
		return mountError(spec, "field Source must not be empty")
	}
	if !path.IsAbs(spec.Source) {
		return mountError(spec, "invalid mount path: '%s' mount path must be absolute", spec.Source)
	}
	m.Source, m.Propagation = path.Clean(spec.Source), mount.PropagationRPrivate
	if o := spec.BindOptions; o != nil {
		if o.Propagation != "" {
			if !slices.Contains(mount.Propagations, o.Propagation) {
				return mountError(spec, "invalid propagation mode: %s", o.Propagation)
			}
			m.Propagation = o.Propagation
		}
		if spec.ReadOnly && o.ReadOnlyForceRecursive && o.ReadOnlyNonRecursive {
			return mountError(spec, "mount options conflict: ReadOnlyNonRecursive and ReadOnlyForceRecursive")
		}
		m.NonRecursive, m.MakeSource = o.NonRecursive, o.CreateMountpoint
		m.ReadOnlyNonRecursive, m.ReadOnlyForce = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	}
	if m.MakeSource {
		return nil
	}
	switch _, err := os.Lstat(m.Source); {
	case errors.Is(err, fs.ErrNotExist):
		return mountError(spec, "bind source path does not exist: %s", m.Source)
	case err != nil:
		return mountError(spec, "%v", err)
	}
	return nil
}

func volumeMount(m *state.Mount, spec mount.Mount) error {
	m.Driver, m.CopyUp, m.Name = "local", true, spec.Source
	if spec.Source == "" {
		m.Name, m.Anonymous = randomID(), true
	} else if !volumeName.MatchString(spec.Source) {
		return invalid("create %s: %q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path",
			spec.Source, spec.Source, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	m.Mode = unsaidMode(m)
	o := spec.VolumeOptions
	if o == nil {
		return nil
	}
	m.CopyUp = !o.NoCopy
	m.VolumeLabels = o.Labels
	if d := o.DriverConfig; d != nil {
		m.VolumeOptions = d.Options
		if d.Name != "" {
			m.Driver = d.Name
		}
	}
	if o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return mountError(spec, "subpath must be a relative path within the volume")
		}
		m.Subpath = filepath.Clean(o.Subpath)
	}
	return nil
}

// imageMount is one of another image's files, for reading only whatever was asked for, as with Docker. Which image that is
// is found out by the creation.
func imageMount(m *state.Mount, spec mount.Mount) error {
	if spec.Source == "" {
		return mountError(spec, "field Source must not be empty")
	}
	m.Name, m.RW, m.Propagation = spec.Source, false, mount.PropagationRPrivate
	if o := spec.ImageOptions; o != nil && o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return mountError(spec, "subpath must be a relative path within the volume")
		}
		m.Subpath = filepath.Clean(o.Subpath)
	}
	return nil
}

func tmpfsMount(m *state.Mount, spec mount.Mount) error {
	if spec.Source != "" {
		return mountError(spec, "field Source must not be specified")
	}
	if o := spec.TmpfsOptions; o != nil {
		if o.SizeBytes > 0 {
			m.Options = append(m.Options, fmt.Sprintf("size=%d", o.SizeBytes))
		}
		if o.Mode != 0 {
			m.Options = append(m.Options, fmt.Sprintf("mode=%o", o.Mode.Perm()|sticky(o.Mode)))
		}
		for _, kv := range o.Options {
			m.Options = append(m.Options, strings.Join(kv, "="))
		}
	}
	if spec.ReadOnly {
		m.Options = append(m.Options, "ro")
	}
	return nil
}

// sticky takes the bits above the permissions from clients that send Go's and from those that send Unix's.
func sticky(m os.FileMode) os.FileMode {
	bits := m & 0o7000
	if m&os.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// parseTmpfs reads one of --tmpfs's.
func parseTmpfs(dst, options string) (state.Mount, error) {
	clean, err := destination(dst, dst, mount.TypeTmpfs)
	if err != nil {
		return state.Mount{}, err
	}
	m := state.Mount{Type: mount.TypeTmpfs, Destination: clean, RW: true, Mode: options}
	if options != "" {
		m.Options = strings.Split(options, ",")
		m.RW = !slices.Contains(m.Options, "ro")
	}
	return m, nil
}

// randomID returns 64 hexadecimal digits.
func randomID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}
