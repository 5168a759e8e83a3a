package runtime

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// dev is the container's /dev: a tmpfs that the daemon fills with device nodes,
// which the container's own root could not make, and links.
type dev struct {
	options mount.Options
	nodes   []plan.Node // paths relative to /dev
	links   map[string]string
	dirs    []string
	console bool
}

// devDir is where the daemon fills /dev.
const devDir = "/dev"

func (c *compiler) mounts() error {
	for _, m := range c.b.Spec.Mounts {
		if !path.IsAbs(m.Destination) {
			return invalid("mount destination %q is not absolute", m.Destination)
		}
		m.Destination = path.Clean(m.Destination)
		o := mount.ParseOptions(m.Options)
		if err := c.checkMappings(m, o); err != nil {
			return err
		}
		if err := c.mount(m, o); err != nil {
			return err
		}
	}
	return nil
}

// checkMappings refuses id mappings where they are not for us to make.
func (c *compiler) checkMappings(m specs.Mount, o mount.Options) error {
	switch bind := o.Bind || m.Type == "bind"; {
	case len(m.UIDMappings)+len(m.GIDMappings) == 0:
		return nil
	case len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0:
		return invalid("mount %q: id mappings of users need some of groups, and the other way round", m.Destination)
	case !bind || len(c.b.Overlays[m.Destination].Lower) > 0:
		return unsupported("mount %q: id mappings of a single mount are for bind mounts only", m.Destination)
	}
	return nil
}

func (c *compiler) mount(m specs.Mount, o mount.Options) error {
	step := plan.Step{Name: "mount " + m.Destination, Op: plan.OpMount}
	switch {
	case m.Type == "cgroup" || m.Type == "cgroup2":
		c.deferred = append(c.deferred, m.Destination)
		return c.cgroupMount(m, o)
	case o.Bind || m.Type == "bind":
		step.Mount = c.bindMount(m, o)
	case m.Destination == devDir && m.Type == "tmpfs":
		if o.CopyUp {
			return unsupported("mount %q: tmpcopyup is not supported there", m.Destination)
		}
		step.Mount = &plan.Mount{Target: devDir, Describe: "tmpfs"}
		step.Mount.File = c.file("/dev", source{kind: sourceDev, dev: c.newDev(o)})
	case m.Destination == "/dev/shm" && m.Type == "tmpfs" && c.b.Join[specs.IPCNamespace] != nil:
		// Shared memory is shared as a whole: System V's by the namespace,
		// POSIX's by the filesystem.
		step.Mount = &plan.Mount{Target: m.Destination, Describe: "shm"}
		step.Mount.File = c.file("/dev/shm", source{kind: sourceJoinedShm, join: c.b.Join[specs.IPCNamespace]})
	case slices.Contains([]string{"proc", "sysfs", "mqueue", "devpts", "tmpfs"}, m.Type):
		step.Mount = fsMount(m, o)
	case o.CopyUp:
		return invalid("mount %q: tmpcopyup is for a tmpfs", m.Destination)
	default:
		// Only the host's root may mount other filesystems.
		step.Mount = &plan.Mount{Target: m.Destination, Describe: m.Source}
		step.Mount.File = c.file("mount "+m.Destination, source{kind: sourceFS, fs: fsMount(m, o)})
	}
	if c.isDeferred(m.Destination) {
		c.cgroups = append(c.cgroups, step)
	} else {
		c.step(step)
	}
	return nil
}

// isDeferred says whether target is below something that is mounted late.
func (c *compiler) isDeferred(target string) bool {
	return slices.ContainsFunc(c.deferred, func(d string) bool { return strings.HasPrefix(target, d+"/") })
}

func (c *compiler) bindMount(m specs.Mount, o mount.Options) *plan.Mount {
	if o.Propagation() == 0 {
		o.RecursiveAttr.Propagation = unix.MS_PRIVATE
	}
	part := c.b.Parts[m.Destination]
	shown := path.Join(m.Source, part)
	pm := &plan.Mount{Target: m.Destination, Describe: shown}
	b := &bind{path: m.Source, part: part, layers: c.b.Overlays[m.Destination], options: o}
	if len(m.UIDMappings) > 0 {
		b.owners = &owners{uids: m.UIDMappings, gids: m.GIDMappings}
	}
	pm.File = c.file("bind "+shown, source{kind: sourceBind, bind: b, mount: pm})
	return pm
}

func fsMount(m specs.Mount, o mount.Options) *plan.Mount {
	data := o.Data
	if o.CopyUp {
		data = append(slices.Clip(data), plan.OptionCopyUp)
	}
	return &plan.Mount{
		Target: m.Destination, FS: m.Type, Source: m.Source, Options: data,
		Attributes: o.Attr.Set | o.RecursiveAttr.Set, Propagation: o.Propagation(),
	}
}

func (c *compiler) newDev(o mount.Options) *dev {
	return &dev{
		options: o,
		links: map[string]string{
			"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
			"core": "/proc/kcore", "ptmx": "pts/ptmx",
		},
		console: c.b.Terminal,
	}
}

// ownDev is the /dev that the daemon fills, nil if the document has none.
func (c *compiler) ownDev() *dev {
	for _, s := range c.out.sources {
		if s.dev != nil {
			return s.dev
		}
	}
	return nil
}

// defaultDevices are in every container, whatever its document says.
func defaultDevices() []specs.LinuxDevice {
	list := make([]specs.LinuxDevice, 0, 6)
	for _, d := range []struct {
		name         string
		major, minor int64
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		mode := fileMode0666
		list = append(list, specs.LinuxDevice{Path: "/dev/" + d.name, Type: "c", Major: d.major, Minor: d.minor, FileMode: &mode})
	}
	return list
}

// devices puts device nodes into /dev, or has the stage make those that belong
// elsewhere. In a user namespace nobody may make nodes: there the host's are
// bound, as far as they are where the document says.
func (c *compiler) devices() error {
	d := c.ownDev()
	devices := c.b.Spec.Linux.Devices
	if d == nil && c.isMounted(devDir) {
		return nil // somebody else's /dev: what it lacks, it lacks
	}
	for _, def := range defaultDevices() {
		if !slices.ContainsFunc(devices, func(x specs.LinuxDevice) bool { return path.Clean(x.Path) == def.Path }) {
			devices = append(slices.Clip(devices), def)
		}
	}
	for _, x := range devices {
		if err := c.device(d, x); err != nil {
			return err
		}
	}
	if d == nil {
		c.links()
		return nil
	}
	for _, m := range c.b.Spec.Mounts {
		if rel, ok := strings.CutPrefix(path.Clean(m.Destination), devDir+"/"); ok && slices.Contains([]string{"devpts", "mqueue", "tmpfs"}, m.Type) {
			d.dirs = append(d.dirs, rel)
		}
	}
	return nil
}

func (c *compiler) isMounted(target string) bool {
	return slices.ContainsFunc(c.b.Spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == target })
}

func (c *compiler) device(d *dev, x specs.LinuxDevice) error {
	n, err := node(x)
	if err != nil {
		return err
	}
	if c.covered(n.Path) {
		return nil
	}
	rel, below := strings.CutPrefix(n.Path, devDir+"/")
	switch {
	case d != nil && below && (rel == "console" || d.links[rel] != ""): // the container has its own
	case d != nil && below:
		n.Path = rel
		d.nodes = append(d.nodes, n)
	case c.b.IDs.Size > 0:
		pm := &plan.Mount{Target: n.Path, Describe: x.Path, IsFile: true}
		pm.File = c.file("device "+x.Path, source{kind: sourceBind, bind: &bind{path: x.Path, unmapped: true}, mount: pm})
		c.step(plan.Step{Name: "bind " + n.Path, Op: plan.OpMount, Mount: pm})
	default:
		c.step(plan.Step{Name: "node " + n.Path, Op: plan.OpNode, Node: &n})
	}
	return nil
}

// covered says whether a node at name would be hidden by a mount on it or
// between /dev and it.
func (c *compiler) covered(name string) bool {
	for _, m := range c.b.Spec.Mounts {
		dst := path.Clean(m.Destination)
		if dst == name || dst != devDir && dst != "/" && strings.HasPrefix(name, dst+"/") {
			return true
		}
	}
	return false
}

// links has the stage make the links of /dev.
func (c *compiler) links() {
	d := c.newDev(mount.Options{})
	names := make([]string, 0, len(d.links))
	for name := range d.links {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c.step(plan.Step{Name: "link /dev/" + name, Op: plan.OpSymlink, Path: "/dev/" + name, Value: d.links[name]})
	}
}

func node(x specs.LinuxDevice) (plan.Node, error) {
	n := plan.Node{Path: path.Clean(x.Path), Major: uint32(x.Major), Minor: uint32(x.Minor)}
	switch x.Type {
	case "c", "u":
		n.Mode = unix.S_IFCHR
	case "b":
		n.Mode = unix.S_IFBLK
	case "p":
		n.Mode = unix.S_IFIFO
	default:
		return plan.Node{}, invalid("device %q: type %q is unknown", x.Path, x.Type)
	}
	if !path.IsAbs(x.Path) {
		return plan.Node{}, invalid("device %q: the path is not absolute", x.Path)
	}
	mode := fileMode0666
	if x.FileMode != nil {
		mode = *x.FileMode
	}
	n.Mode |= uint32(mode.Perm())
	if x.UID != nil {
		n.UID = *x.UID
	}
	if x.GID != nil {
		n.GID = *x.GID
	}
	return n, nil
}

// cgroupMount shows the container its own cgroup. On v2, with a cgroup namespace,
// the stage mounts the tree once it is in there. Else directories of the host's
// mounts are bound. In a cgroup namespace of the container's own that is the same
// as a mount of a v1 hierarchy, down to what mountinfo shows, and it takes as long
// with a thousand containers as with one: to mount a v1 hierarchy the kernel goes
// through all groups of the v2 tree (cgroup_lock_and_drain_offline, in
// cgroup1_get_tree), and it would nine times for each container.
func (c *compiler) cgroupMount(m specs.Mount, o mount.Options) error {
	joined, own := c.b.Join[specs.CgroupNamespace] != nil, false
	for _, n := range c.b.Spec.Linux.Namespaces {
		if n.Type == specs.CgroupNamespace {
			joined, own = joined || n.Path != "", n.Path == ""
		}
	}
	attributes := o.Attr.Set | o.RecursiveAttr.Set
	if c.tree.Mode() == cgroup.V2 {
		c.cgroups = append(c.cgroups, c.cgroupStep(m.Destination, joined || own, "cgroup2", nil, c.tree.Unified(), attributes))
		return nil
	}
	readOnly := attributes & unix.MOUNT_ATTR_RDONLY
	c.cgroups = append(c.cgroups, plan.Step{Name: "mount " + m.Destination, Op: plan.OpMount, Mount: &plan.Mount{
		Target: m.Destination, FS: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}, Attributes: attributes &^ readOnly,
	}})
	for _, h := range c.tree.Hierarchies() {
		target := path.Join(m.Destination, h.Name)
		dir := c.group.DirIn(h, cgroup.App)
		c.cgroups = append(c.cgroups, c.cgroupStep(target, joined, "cgroup", h.Controllers, dir, attributes))
		for _, controller := range h.Controllers {
			// Mounted together, but found under each of the names.
			if controller != h.Name && !strings.Contains(controller, "=") {
				c.cgroups = append(c.cgroups, plan.Step{Name: "link " + controller, Op: plan.OpSymlink, Path: path.Join(m.Destination, controller), Value: h.Name})
			}
		}
	}
	if readOnly != 0 {
		c.cgroups = append(c.cgroups, plan.Step{Name: "read-only " + m.Destination, Op: plan.OpAttributes, Path: m.Destination, Flags: readOnly})
	}
	return nil
}

// cgroupStep mounts the filesystem if the container's processes see it as it is
// to be seen, and else binds dir.
func (c *compiler) cgroupStep(target string, mounted bool, fs string, options []string, dir string, attributes uint64) plan.Step {
	pm := &plan.Mount{Target: target, Describe: "cgroup"}
	if mounted {
		pm.FS, pm.Source, pm.Options, pm.Attributes = fs, "cgroup", options, attributes
	} else {
		o := mount.Options{Bind: true, Attr: mount.Attr{Set: attributes, Propagation: unix.MS_PRIVATE}}
		pm.File = c.file("bind "+dir, source{kind: sourceBind, bind: &bind{path: dir, options: o, unmapped: true}, mount: pm})
	}
	return plan.Step{Name: "mount " + target, Op: plan.OpMount, Mount: pm}
}
