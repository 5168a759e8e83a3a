package runtime

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// compiled is a plan whose files are still to be opened.
type compiled struct {
	plan       *plan.Plan
	cloneFlags uintptr
	sources    []source // one for each of plan.Files, in order
	pidNS      string   // path of a pid namespace to be forked into
	// joined and fresh are what a container without a shim is born into: namespaces
	// that are there, and new ones that clone's flags are not for.
	joined []joinedNS
	fresh  []ns.Kind
	// rlimits are those whose hard limit only the daemon can set, because it raises one.
	rlimits []plan.Rlimit
}

// source says how a file of a plan is to be made. Exactly one of the pointers
// is set, or none for what the runtime knows by kind.
type source struct {
	kind  sourceKind
	bind  *bind
	dev   *dev
	path  string      // of a namespace or cgroup file
	ns    ns.Kind     // of joined
	join  *Container  // whose namespace, or whose /dev/shm
	fs    *plan.Mount // of a filesystem that only the host's root may mount
	mount *plan.Mount // the step's mount, to be completed: is it a file?
	given *os.File    // by the caller, whose it stays
}

type sourceKind int

const (
	sourceRoot sourceKind = iota
	sourceBind
	sourceDev
	sourceFS
	sourceNamespace // path
	sourceJoined    // ns of join
	sourceJoinedShm // /dev/shm of join
	sourceTasks     // path, opened for writing
	sourceInit
	sourceTools
	sourceGiven
	sourceMountNS // put there by the shim
)

// bind is a bind mount to be made of a directory or file of the host.
type bind struct {
	path string
	// part is the path below path that is mounted, see [Bundle.Parts].
	part string
	// layers, if there are any, are merged and mounted in place of path.
	layers  Layers
	options mount.Options
	// owners, if not nil, are shown in place of those that the container's user
	// namespace would give.
	owners *owners
	// unmapped leaves owners as they are on the host (cgroups, devices).
	unmapped bool
}

// compiler turns a bundle into a plan. It opens nothing.
type compiler struct {
	b     *Bundle
	group *cgroup.Group
	tree  *cgroup.Tree
	// hardLimit tells the daemon's own hard limit of a resource.
	hardLimit func(resource int) uint64
	filters   *filters

	out      compiled
	before   []plan.Step
	cgroups  []plan.Step // cgroup mounts, which need the cgroup namespace
	deferred []string    // targets whose mounts are among cgroups
}

func (c *compiler) newNS(t specs.LinuxNamespaceType) bool {
	return c.out.cloneFlags&nsKind(t).Flag() != 0
}

func nsKind(t specs.LinuxNamespaceType) ns.Kind {
	switch t {
	case specs.PIDNamespace:
		return ns.PID
	case specs.NetworkNamespace:
		return ns.Net
	case specs.MountNamespace:
		return ns.Mount
	case specs.IPCNamespace:
		return ns.IPC
	case specs.UTSNamespace:
		return ns.UTS
	case specs.UserNamespace:
		return ns.User
	case specs.CgroupNamespace:
		return ns.Cgroup
	case specs.TimeNamespace:
		return ns.Time
	}
	return ns.Kind(t)
}

func unsupported(format string, args ...any) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// compile makes the plan of a container's first process.
func (c *compiler) compile() (*compiled, error) {
	c.out.plan = &plan.Plan{ID: c.b.ID, Mode: plan.ModeCreate}
	for _, part := range []func() error{
		c.refuse, c.namespaces, c.readyEarly, c.rootfs, c.mounts, c.devices, c.terminal, c.hold, c.kernel, c.readyLate, c.paths,
		c.pivot, c.cgroupView, c.keep, c.process,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	c.out.plan.Steps = c.before
	if n := len(c.out.plan.Files); n > plan.MaxFiles {
		return nil, unsupported("%d mounts and files of the host: more than %d", n, plan.MaxFiles)
	}
	return &c.out, nil
}

func (c *compiler) step(s plan.Step) { c.before = append(c.before, s) }

// file adds a file to the plan and returns its index.
func (c *compiler) file(name string, s source) int {
	c.out.plan.Files = append(c.out.plan.Files, name)
	c.out.sources = append(c.out.sources, s)
	return len(c.out.plan.Files) - 1
}

// refuse names what a document asks for and cannot get.
func (c *compiler) refuse() error {
	s := c.b.Spec
	if s == nil || s.Process == nil || s.Linux == nil {
		return invalid("container %s: the document lacks process or linux", c.b.ID)
	}
	l, p := s.Linux, s.Process
	hooks := s.Hooks != nil && (len(s.Hooks.CreateRuntime)+len(s.Hooks.CreateContainer)+len(s.Hooks.StartContainer)+
		len(s.Hooks.Poststart)+len(s.Hooks.Poststop)+len(s.Hooks.Prestart) > 0) //nolint:staticcheck // the old name has to be refused, too
	for _, r := range []struct {
		asked bool
		what  string
	}{
		{hooks && c.b.bare == nil, "hooks"},
		{l.IntelRdt != nil, "intelRdt"},
		{len(l.TimeOffsets) > 0 && c.b.bare == nil, "timeOffsets"},
		{l.MountLabel != "" || p.SelinuxLabel != "", "an SELinux label"},
		{p.ExecCPUAffinity != nil, "execCPUAffinity"},
		{len(l.NetDevices) > 0, "netDevices"},
		{l.MemoryPolicy != nil, "memoryPolicy"},
	} {
		if r.asked {
			return unsupported("container %s: %s is not supported", c.b.ID, r.what)
		}
	}
	return nil
}

// namespaces decides which are new, which are joined and which are the host's.
// Joined ones come first of all: the filesystems that are mounted later belong
// to the namespaces of whoever mounts them.
func (c *compiler) namespaces() error {
	if c.b.bare != nil {
		return c.bareNamespaces()
	}
	listed := map[specs.LinuxNamespaceType]bool{}
	for _, n := range c.b.Spec.Linux.Namespaces {
		kind := nsKind(n.Type)
		switch {
		case kind.Flag() == 0 || kind == ns.Time:
			return unsupported("namespace type %q is not supported", n.Type)
		case listed[n.Type]:
			return invalid("namespace type %q is listed twice", n.Type)
		case kind == ns.User && n.Path != "":
			return unsupported("joining a user namespace by path is not supported")
		case kind == ns.Mount && n.Path != "":
			return unsupported("joining a mount namespace is not supported")
		case kind == ns.PID && n.Path != "":
			c.out.pidNS = n.Path
		case n.Path != "":
			c.joinFile(kind, c.file(string(kind)+" namespace", source{kind: sourceNamespace, path: n.Path}))
		case kind == ns.User, kind == ns.Cgroup:
			// The shim is in the one; the other is left for a new one once
			// the process is in its cgroup.
		default:
			c.out.cloneFlags |= kind.Flag()
		}
		listed[n.Type] = true
	}
	if !listed[specs.MountNamespace] {
		return invalid("container %s: a mount namespace of its own is required", c.b.ID)
	}
	if c.b.IDs.Size > 0 && !listed[specs.NetworkNamespace] && c.b.Join[specs.NetworkNamespace] == nil {
		return invalid("container %s: the host's network needs the host's user namespace", c.b.ID)
	}
	for _, t := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.CgroupNamespace} {
		other := c.b.Join[t]
		if other == nil {
			continue
		}
		if listed[t] {
			return invalid("namespace type %q cannot be both new and joined", t)
		}
		if t == specs.PIDNamespace {
			continue // the shim forks the stage in it
		}
		kind := nsKind(t)
		c.joinFile(kind, c.file(string(kind)+" namespace of "+other.ID(), source{kind: sourceJoined, ns: kind, join: other}))
	}
	return nil
}

func (c *compiler) joinFile(kind ns.Kind, file int) {
	c.step(plan.Step{Name: "join " + string(kind) + " namespace", Op: plan.OpSetns, Flags: uint64(kind.Flag()), File: file})
}

func (c *compiler) rootfs() error {
	// In a new user namespace the copied mounts are slaves already, and then
	// this cuts off what the host mounts later.
	c.step(plan.Step{Name: "private mounts", Op: plan.OpPropagation, Path: "/", Flags: unix.MS_PRIVATE})
	root := plan.Step{Name: "root", Op: plan.OpRoot, File: c.file("root filesystem", source{kind: sourceRoot})}
	if c.b.bare != nil {
		root.Path = c.b.RootFS.Base
	}
	c.step(root)
	return nil
}

var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// WithoutHurtful leaves out limits that our own programs could not live with.
func WithoutHurtful(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	return slices.DeleteFunc(slices.Clone(limits), func(l specs.POSIXRlimit) bool {
		resource, ok := resources[l.Type]
		r := plan.Rlimit{Resource: resource, Soft: l.Soft, Hard: l.Hard}
		return ok && r.HurtsGo()
	})
}

// rlimitSteps are the steps that set limits, and the limits whose hard one is above hard's,
// which the daemon has to raise before.
func rlimitSteps(limits []specs.POSIXRlimit, hard func(int) uint64) (steps []plan.Step, raised []plan.Rlimit, err error) {
	for _, l := range limits {
		resource, ok := resources[l.Type]
		if !ok {
			return nil, nil, invalid("unknown rlimit type %q", l.Type)
		}
		r := plan.Rlimit{Name: l.Type, Resource: resource, Soft: l.Soft, Hard: l.Hard}
		if l.Hard > hard(resource) {
			raised = append(raised, r)
		}
		steps = append(steps, plan.Step{Name: "rlimit " + strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), Op: plan.OpRlimit, Rlimit: &r})
	}
	return steps, raised, nil
}

// terminal makes the standard streams.
func (c *compiler) terminal() error {
	if !c.b.Terminal {
		c.step(plan.Step{Name: "session", Op: plan.OpSession})
		return nil
	}
	c.step(plan.Step{Name: "terminal", Op: plan.OpTerminal, Path: "/dev/console", Rows: c.b.ConsoleSize[0], Columns: c.b.ConsoleSize[1]})
	return nil
}

// kernel is what the container has of its own in the kernel, beside mounts.
func (c *compiler) kernel() error {
	s := c.b.Spec
	if (s.Hostname != "" || s.Domainname != "") && !c.newNS(specs.UTSNamespace) && (c.b.bare == nil || !c.has(specs.UTSNamespace)) {
		return invalid("unable to set hostname without a private UTS namespace")
	}
	if s.Hostname != "" {
		c.step(plan.Step{Name: "hostname", Op: plan.OpHostname, Value: s.Hostname})
	}
	if s.Domainname != "" {
		c.step(plan.Step{Name: "domainname", Op: plan.OpDomainname, Value: s.Domainname})
	}
	if c.newNS(specs.NetworkNamespace) {
		c.step(plan.Step{Name: "loopback", Op: plan.OpLoopback})
	}
	keys := make([]string, 0, len(s.Linux.Sysctl))
	for k := range s.Linux.Sysctl {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if strings.Contains(k, "..") {
			return invalid("sysctl %q is not a parameter's name", k)
		}
		c.step(plan.Step{Name: "sysctl " + k, Op: plan.OpSysctl, Path: k, Value: s.Linux.Sysctl[k]})
	}
	c.step(plan.Step{Name: "keyring", Op: plan.OpKeyring, Value: "_ses." + c.b.ID})
	return nil
}

// paths hides and protects what the kernel shows of the host.
func (c *compiler) paths() error {
	for _, p := range c.b.Spec.Linux.ReadonlyPaths {
		c.step(plan.Step{Name: "read-only " + p, Op: plan.OpReadonlyPath, Path: p})
	}
	for _, p := range c.b.Spec.Linux.MaskedPaths {
		c.step(plan.Step{Name: "mask " + p, Op: plan.OpMask, Path: p})
	}
	return nil
}

func (c *compiler) pivot() error {
	cwd := c.b.Spec.Process.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if !path.IsAbs(cwd) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", cwd)
	}
	if path.Clean(cwd) != "/" {
		c.step(plan.Step{Name: "make working directory", Op: plan.OpDirectory, Path: cwd})
	}
	if c.b.Tools != nil { // behind the last of what is done to /proc
		c.step(plan.Step{Name: "tools", Op: plan.OpTools, File: c.file("tools", source{kind: sourceTools})})
	}
	c.step(plan.Step{Name: "pivot", Op: plan.OpPivot})
	return nil
}

// readyEarly lets the daemon connect the network while the stage mounts, unless
// something has to be done before.
func (c *compiler) readyEarly() error {
	if c.b.bare == nil && !c.readyIsLate() {
		c.ready()
	}
	return nil
}

func (c *compiler) readyLate() error {
	if c.b.bare == nil && c.readyIsLate() {
		c.ready()
	}
	return nil
}

func (c *compiler) ready() { c.step(plan.Step{Name: "wait for go", Op: plan.OpBarrier}) }

// readyIsLate says whether the daemon has to wait for the terminal, whose master
// comes before ready, or for a parameter that network interfaces take over when
// they appear (Documentation/networking/ip-sysctl.rst, conf/default and
// neigh/default).
func (c *compiler) readyIsLate() bool {
	if c.b.Terminal {
		return true
	}
	for name := range c.b.Spec.Linux.Sysctl {
		name = strings.ReplaceAll(name, "/", ".")
		if strings.HasPrefix(name, "net.") && (strings.Contains(name, ".conf.") || strings.Contains(name, ".neigh.")) {
			return true
		}
	}
	return false
}

// cgroupView has the process enter its v1 cgroups. A cgroup namespace begins
// there, and what is mounted of it can be mounted then only.
func (c *compiler) cgroupView() error {
	if err := c.enterCgroups(cgroup.App); err != nil {
		return err
	}
	for _, n := range c.b.Spec.Linux.Namespaces {
		if n.Type == specs.CgroupNamespace && n.Path == "" {
			c.step(plan.Step{Name: "cgroup namespace", Op: plan.OpUnshare, Flags: unix.CLONE_NEWCGROUP})
		}
	}
	c.before = append(c.before, c.cgroups...)
	if s := c.b.Spec.Linux.RootfsPropagation; s != "" {
		o := mount.ParseOptions([]string{s})
		if o.Propagation() == 0 {
			return invalid("rootfsPropagation %q is unknown", s)
		}
		if c.b.IDs.Size == 0 || c.b.bare != nil || o.Propagation() != unix.MS_SHARED {
			c.step(plan.Step{Name: "root propagation", Op: plan.OpPropagation, Path: "/", Flags: o.Propagation()})
		}
	}
	if c.b.Spec.Root != nil && c.b.Spec.Root.Readonly {
		c.step(plan.Step{Name: "read-only root", Op: plan.OpAttributes, Path: "/", Flags: unix.MOUNT_ATTR_RDONLY})
	}
	return nil
}

// enterCgroups has the stage enter the v1 groups by itself.
func (c *compiler) enterCgroups(sub cgroup.Sub) error {
	hierarchies := c.tree.Hierarchies()
	if len(hierarchies) == 0 {
		return nil
	}
	first := len(c.out.plan.Files)
	for _, h := range hierarchies {
		c.file("tasks of "+h.Name, source{kind: sourceTasks, path: tasksPath(h, c.group, sub)})
	}
	c.step(plan.Step{Name: "cgroups", Op: plan.OpCgroup, File: first, Count: len(hierarchies)})
	return nil
}

// process drops rights and executes.
func (c *compiler) process() error {
	if c.b.bare != nil && len(c.b.Spec.Process.Args) == 0 {
		return c.noProcess()
	}
	limits, raised, err := rlimitSteps(c.b.Spec.Process.Rlimits, c.hardLimit)
	if err != nil {
		return err
	}
	c.out.rlimits = raised
	steps, err := processSteps(processInput{
		process: c.b.Spec.Process, limits: limits, numbers: c.b.bare != nil, groups: c.b.GroupAdd, filters: c.filters,
		seccomp: c.b.Spec.Linux.Seccomp, personality: c.b.Spec.Linux.Personality,
	})
	if err != nil {
		return err
	}
	if x := steps[len(steps)-1].Exec; c.b.Init {
		x.Init = true
		x.File = c.file("init", source{kind: sourceInit})
	}
	c.before = append(c.before, c.meet(steps)...)
	return nil
}

type processInput struct {
	process     *specs.Process
	groups      []string
	limits      []plan.Step
	numbers     bool // the user is given by numbers, which are all it is
	seccomp     *specs.LinuxSeccomp
	filter      *plan.Seccomp // ready-made; wins over seccomp
	filters     *filters
	personality *specs.LinuxPersonality
}

// processSteps are the last steps of every plan: who the process is, what it
// may do, and exec.
func processSteps(in processInput) ([]plan.Step, error) {
	p := in.process
	var steps []plan.Step
	if in.personality != nil {
		flags, err := personality(in.personality)
		if err != nil {
			return nil, err
		}
		steps = append(steps, plan.Step{Name: "personality", Op: plan.OpPersonality, Flags: flags})
	}
	cwd := p.Cwd
	if cwd == "" {
		cwd = "/"
	}
	var groups []string
	for _, g := range p.User.AdditionalGids {
		groups = append(groups, strconv.FormatUint(uint64(g), 10))
	}
	steps = append(steps,
		plan.Step{Name: "user", Op: plan.OpUser, User: &plan.User{
			Spec: p.User.Username,
			// Without any number the default user is meant, with all its groups.
			Lookup: !in.numbers && p.User.UID == 0 && p.User.GID == 0 && len(groups) == 0,
			UID:    p.User.UID, GID: p.User.GID,
			Groups: append(groups, in.groups...), OwnStdio: true,
		}},
		plan.Step{Name: "working directory", Op: plan.OpWorkdir, Path: cwd},
	)
	if p.Capabilities != nil {
		sets, err := capabilities(p.Capabilities)
		if err != nil {
			return nil, err
		}
		steps = append(steps, plan.Step{Name: "capabilities", Op: plan.OpCapabilities, Capabilities: sets})
	}
	if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" {
		steps = append(steps, plan.Step{Name: "apparmor", Op: plan.OpAppArmor, Value: p.ApparmorProfile})
	}
	if p.NoNewPrivileges {
		steps = append(steps, plan.Step{Name: "no new privileges", Op: plan.OpNoNewPrivs})
	}
	steps = append(steps, in.limits...)
	filter := in.filter
	if filter == nil && in.seccomp != nil {
		var err error
		if filter, err = in.filters.compile(in.seccomp); err != nil {
			return nil, err
		}
	}
	if filter != nil {
		steps = append(steps, plan.Step{Name: "seccomp", Op: plan.OpSeccomp, Seccomp: filter})
	}
	if len(p.Args) == 0 {
		return nil, invalid("no command specified")
	}
	for _, s := range slices.Concat(p.Args, p.Env) {
		if strings.ContainsRune(s, 0) {
			return nil, invalid("arguments and environment must not hold NUL bytes")
		}
	}
	return append(steps, plan.Step{Name: "exec", Op: plan.OpExec, Exec: &plan.Exec{Args: p.Args, Env: p.Env, Umask: p.User.Umask}}), nil
}

func capabilities(c *specs.LinuxCapabilities) (*plan.Capabilities, error) {
	var out plan.Capabilities
	for _, s := range []struct {
		names []string
		to    *uint64
	}{
		{c.Bounding, &out.Bounding},
		{c.Effective, &out.Effective},
		{c.Permitted, &out.Permitted},
		{c.Inheritable, &out.Inheritable},
		{c.Ambient, &out.Ambient},
	} {
		set, err := caps.SetOf(s.names)
		if err != nil {
			return nil, err
		}
		*s.to = uint64(set)
	}
	return &out, nil
}

func personality(p *specs.LinuxPersonality) (uint64, error) {
	if len(p.Flags) > 0 {
		return 0, unsupported("personality flags are not supported")
	}
	switch p.Domain {
	case specs.PerLinux:
		return 0, nil
	case specs.PerLinux32:
		return 0x0008, nil // PER_LINUX32, see personality(2)
	}
	return 0, invalid("personality domain %q is unknown", p.Domain)
}
