package createflags

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

func (b *builder) volumes() error {
	s, h := &b.storage, b.HostConfig
	// A set, in the order given: a volume named twice counts once.
	b.Config.Volumes = map[string]struct{}{}
	seen := map[string]bool{}
	for _, spec := range s.volumes.GetSlice() {
		if seen[spec] {
			continue
		}
		seen[spec] = true
		source, err := volumeSource(spec)
		if err != nil {
			return err
		}
		if source == "" {
			b.Config.Volumes[spec] = struct{}{}
			continue
		}
		h.Binds = append(h.Binds, absoluteBind(spec))
	}
	h.VolumesFrom, h.VolumeDriver, h.Mounts = s.volumesFrom.GetSlice(), s.volumeDriver, s.mounts.Value()
	h.Tmpfs = map[string]string{}
	for _, t := range s.tmpfs.GetSlice() {
		path, options, _ := strings.Cut(t, ":")
		h.Tmpfs[path] = options
	}
	h.StorageOpt = map[string]string{}
	for _, o := range s.storageOpt.GetSlice() {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			return errors.New("invalid storage option")
		}
		h.StorageOpt[key] = value
	}
	return nil
}

// volumeSource returns the source in a --volume argument
// `[source:]target[:options]`; none makes the volume an anonymous one. Only
// the form is checked: what the parts mean is the daemon's to say. A colon
// after a single letter belongs to a Windows drive.
func volumeSource(spec string) (source string, err error) {
	switch len(spec) {
	case 0:
		return "", errors.New("invalid empty volume spec")
	case 1, 2:
		return "", nil
	}
	parts := splitVolume(spec)
	for n, part := range parts {
		switch {
		case part == "":
			return "", fmt.Errorf("invalid spec: %s: empty section between colons", spec)
		case n > 2:
			return "", fmt.Errorf("invalid spec: %s: too many colons", spec)
		}
	}
	if len(parts) == 1 {
		return "", nil
	}
	return parts[0], nil
}

func splitVolume(spec string) []string {
	var parts []string
	var part []rune
	for _, c := range spec {
		drive := len(part) == 1 && unicode.IsLetter(part[0])
		if c == ':' && !drive {
			parts, part = append(parts, string(part)), nil
			continue
		}
		part = append(part, c)
	}
	return append(parts, string(part))
}

// absoluteBind makes a source that is relative to the working directory
// absolute, as the daemon has another one. A plain word is a volume's name.
func absoluteBind(spec string) string {
	source, rest, _ := strings.Cut(spec, ":")
	if !strings.HasPrefix(source, ".") {
		return spec
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return spec
	}
	return abs + ":" + rest
}
