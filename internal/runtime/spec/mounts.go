package spec

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mounts lists the default mounts, then everything else, higher ones first.
func (b *builder) mounts() error {
	user := b.userMounts()
	own := make(map[string]bool, len(user)) // destinations that are not ours to fill
	for _, m := range user {
		own[m.Destination] = true
	}
	for _, m := range defaultMounts() {
		if own[m.Destination] || own["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		if m.Destination == "/dev/shm" {
			if b.HostConfig.IpcMode.IsNone() {
				continue
			}
			m.Options = append(m.Options, "size="+strconv.FormatInt(b.HostConfig.ShmSize, 10))
		}
		b.spec.Mounts = append(b.spec.Mounts, m)
	}
	if err := b.adjustDefaults(); err != nil {
		return err
	}
	for _, m := range user {
		converted, err := b.convertMount(m)
		if err != nil {
			return err
		}
		b.spec.Mounts = append(b.spec.Mounts, converted)
	}
	return nil
}

// userMounts returns the user's mounts, our files and the host's /dev/shm if that
// is shared, by depth. A user's mount takes the place of ours. Where the IPC
// namespace is another container's, the tmpfs at /dev/shm stands for that
// container's, which the runtime puts there.
func (b *builder) userMounts() []Mount {
	list := slices.Clone(b.Mounts)
	for i := range list {
		list[i].Destination = path.Clean(list[i].Destination)
	}
	add := func(destination, source string, rw bool) {
		taken := slices.ContainsFunc(list, func(m Mount) bool { return m.Destination == destination })
		if source != "" && !taken {
			list = append(list, Mount{Type: mount.TypeBind, Source: source, Destination: destination, RW: rw})
		}
	}
	writable := !b.HostConfig.ReadonlyRootfs
	add("/etc/resolv.conf", b.Files.ResolvConf, writable)
	add("/etc/hostname", b.Files.Hostname, writable)
	add("/etc/hosts", b.Files.Hosts, writable)
	if b.HostConfig.IpcMode.IsHost() {
		add("/dev/shm", "/dev/shm", true)
	}
	slices.SortStableFunc(list, func(a, b Mount) int {
		depth := func(m Mount) int { return strings.Count(m.Destination, "/") }
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(a.Destination, b.Destination))
	})
	return list
}

// adjustDefaults makes default mounts read-only or writable as options say.
func (b *builder) adjustDefaults() error {
	privileged := b.HostConfig.Privileged
	writableCgroups := privileged
	if option := b.security.writableCgroups; option != nil {
		if b.userNS() {
			return invalid("option WritableCgroups conflicts with user namespaces and rootless mode")
		}
		writableCgroups = *option
	}
	readonly := func(m *specs.Mount) {
		if !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
	}
	writable := func(m *specs.Mount) {
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
	}
	for i := range b.spec.Mounts {
		m := &b.spec.Mounts[i]
		within := []string{"/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"}
		if b.HostConfig.ReadonlyRootfs && !slices.Contains(within, m.Destination) {
			readonly(m)
		}
		if privileged && m.Destination == "/sys" || writableCgroups && m.Type == "cgroup" {
			writable(m)
		}
	}
	return nil
}

func (b *builder) convertMount(m Mount) (specs.Mount, error) {
	if m.Type == mount.TypeTmpfs {
		options, err := tmpfsOptions(slices.Concat([]string{"noexec", "nosuid", "nodev", "rprivate"}, m.Options))
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: options}, err
	}
	out := specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: []string{"rbind"}}
	if m.NonRecursive {
		out.Options[0] = "bind"
	}
	if !m.RW {
		if m.ReadOnlyNonRecursive && m.ReadOnlyForceRecursive {
			return out, invalid("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
		}
		if m.ReadOnlyNonRecursive {
			out.Options = append(out.Options, "ro")
		} else {
			out.Options = append(out.Options, "rro")
		}
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = mount.PropagationRPrivate
	}
	out.Options = append(out.Options, string(propagation))
	return out, b.rootPropagation(m.Source, propagation)
}

// rootPropagation checks that a mount can take part in the propagation that is
// asked for, and lets the container's root take part in it.
func (b *builder) rootPropagation(source string, p mount.Propagation) error {
	wantsShared := p == mount.PropagationShared || p == mount.PropagationRShared
	if !wantsShared && p != mount.PropagationSlave && p != mount.PropagationRSlave {
		return nil
	}
	at, shared, slave, err := b.Host.Lookup.Propagation(source)
	if err != nil {
		return err
	}
	root := &b.spec.Linux.RootfsPropagation
	switch {
	case wantsShared && !shared:
		return invalid("path %s is mounted on %s but it is not a shared mount", source, at)
	case wantsShared:
		*root = string(mount.PropagationShared)
	case !shared && !slave:
		return invalid("path %s is mounted on %s but it is not a shared or slave mount", source, at)
	case *root == "":
		*root = string(mount.PropagationRSlave)
	}
	return nil
}

// tmpfsFlags gives each flag of a tmpfs the group in which the last one counts.
func tmpfsFlags(option string) (group string, known bool) {
	for _, g := range [][]string{
		{"ro", "rw"},
		{"suid", "nosuid"},
		{"dev", "nodev"},
		{"exec", "noexec"},
		{"sync", "async"},
		{"dirsync"},
		{"remount"},
		{"mand", "nomand"},
		{"atime", "noatime"},
		{"diratime", "nodiratime"},
		{"relatime", "norelatime"},
		{"strictatime", "nostrictatime"},
		{"bind", "rbind", "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"},
	} {
		if slices.Contains(g, option) {
			return g[0], true
		}
	}
	return "", false
}

// tmpfsOptions keeps the last option of each kind, in the order of those kept.
func tmpfsOptions(options []string) ([]string, error) {
	var kept []string
	seen := make(map[string]bool)
	for _, option := range slices.Backward(options) {
		if option == "defaults" || option == "" {
			continue
		}
		group, flag := tmpfsFlags(option)
		if !flag {
			key, _, valued := strings.Cut(option, "=")
			if !valued || !slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}, key) {
				return nil, invalid("invalid tmpfs option %q", key)
			}
			group = key + "="
		}
		if !seen[group] {
			seen[group] = true
			kept = append(kept, option)
		}
	}
	slices.Reverse(kept)
	return kept, nil
}
