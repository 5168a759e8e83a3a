package waits

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// mounts is a table of /proc/PID/mountinfo, the older ones first.
type mounts struct{ list []*mountinfo.Info }

func readMounts(path string) *mounts {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	list, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil
	}
	return &mounts{list}
}

// of is the mount that a thread waits for. Where its file is not known, or leads
// elsewhere by a link, it is the only one of the kind that is waited for so.
func (t *mounts) of(w *Wait) (found Mount) {
	if t == nil {
		return found
	}
	at := t.at(w.File)
	if kinds := w.cause.fileSystems(); len(kinds) > 0 && (at == nil || !ofKind(at.FSType, kinds)) {
		at = t.only(kinds)
	}
	if at == nil {
		return found
	}
	found = describe(at)
	host := readMounts("/proc/self/mountinfo")
	found.Host = host.point(found.Device)
	if upper := option(at.VFSOptions, "upperdir"); at.FSType == "overlay" && strings.HasPrefix(upper, "/") {
		if below := host.at(upper); below != nil {
			m := describe(below)
			m.Host = m.Point
			found.Below = &m
		}
	}
	return found
}

func describe(m *mountinfo.Info) Mount {
	return Mount{Point: m.Mountpoint, Type: m.FSType, Source: m.Source, Device: strconv.Itoa(m.Major) + ":" + strconv.Itoa(m.Minor)}
}

// at is the mount that a path is on; nil: not known.
func (t *mounts) at(path string) *mountinfo.Info {
	if t == nil || !strings.HasPrefix(path, "/") {
		return nil
	}
	path = filepath.Clean(path)
	var best *mountinfo.Info
	for _, m := range t.list {
		beneath := m.Mountpoint == "/" || path == m.Mountpoint || strings.HasPrefix(path, m.Mountpoint+"/")
		if beneath && (best == nil || len(m.Mountpoint) >= len(best.Mountpoint)) {
			best = m // of two at the same place the younger one is on top
		}
	}
	return best
}

// only is the mount of some kinds, if there is one alone; nil: there is not.
func (t *mounts) only(kinds []string) *mountinfo.Info {
	var found *mountinfo.Info
	for _, m := range t.list {
		if !ofKind(m.FSType, kinds) {
			continue
		}
		if found != nil {
			return nil
		}
		found = m
	}
	return found
}

// point is where a device is mounted, by preference its root; empty: nowhere.
func (t *mounts) point(device string) string {
	if t == nil {
		return ""
	}
	best := ""
	for _, m := range t.list {
		if describe(m).Device != device {
			continue
		}
		if m.Root == "/" {
			return m.Mountpoint
		}
		if best == "" {
			best = m.Mountpoint
		}
	}
	return best
}

// ofKind tells whether a type is one of those, or one of its subtypes as fuse.sshfs.
func ofKind(typ string, kinds []string) bool {
	base, _, _ := strings.Cut(typ, ".")
	return slices.Contains(kinds, base)
}

// option is the value of one of a list of options.
func option(list, name string) string {
	for o := range strings.SplitSeq(list, ",") {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return value
		}
	}
	return ""
}
