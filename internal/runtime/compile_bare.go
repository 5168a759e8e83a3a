package runtime

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// joinedNS is a namespace that the process is born into.
type joinedNS struct {
	kind ns.Kind
	path string
}

// bareNamespaces are those of a container without a shim. What it joins is entered by
// the thread that forks it: with the host's rights, which it may not have itself.
func (c *compiler) bareNamespaces() error {
	for _, n := range c.b.Spec.Linux.Namespaces {
		kind := nsKind(n.Type)
		switch {
		case kind.Flag() == 0:
			return invalid("namespace type %q is unknown", n.Type)
		case c.has(n.Type):
			return invalid("namespace type %q is listed twice", n.Type)
		case kind == ns.Mount && n.Path != "":
			return unsupported("joining a mount namespace by path is not supported")
		case kind == ns.User && n.Path != "":
			return unsupported("joining a user namespace by path is not supported")
		case n.Path != "":
			c.out.joined = append(c.out.joined, joinedNS{kind, n.Path})
		case kind == ns.User, kind == ns.Time:
			c.out.fresh = append(c.out.fresh, kind)
		case kind == ns.Cgroup:
			c.out.fresh = append(c.out.fresh, kind) // made by the stage once it is in its group
		default:
			c.out.cloneFlags |= kind.Flag()
		}
	}
	if !c.has(specs.MountNamespace) {
		return unsupported("a container without a mount namespace of its own is not supported")
	}
	if slices.Contains(c.out.fresh, ns.User) && slices.ContainsFunc(c.out.joined, func(j joinedNS) bool { return j.kind == ns.Time }) {
		return unsupported("joining a time namespace by path from a new user namespace is not supported")
	}
	if len(c.b.Spec.Linux.TimeOffsets) > 0 && !slices.Contains(c.out.fresh, ns.Time) {
		return invalid("timeOffsets need a new time namespace")
	}
	return c.bareSysctls()
}

// has says whether the document lists a namespace, new or joined. It is complete once
// bareNamespaces has gone through the list.
func (c *compiler) has(t specs.LinuxNamespaceType) bool {
	kind := nsKind(t)
	return c.out.cloneFlags&kind.Flag() != 0 || slices.Contains(c.out.fresh, kind) ||
		slices.ContainsFunc(c.out.joined, func(j joinedNS) bool { return j.kind == kind })
}

// sysctlNamespaces tells to which namespace a kernel parameter belongs: by its name or,
// ending in a dot, by the beginning of that. The others are the whole host's.
var sysctlNamespaces = map[string]specs.LinuxNamespaceType{
	"net.": specs.NetworkNamespace, "fs.mqueue.": specs.IPCNamespace,
	"kernel.msgmax": specs.IPCNamespace, "kernel.msgmnb": specs.IPCNamespace, "kernel.msgmni": specs.IPCNamespace,
	"kernel.sem": specs.IPCNamespace, "kernel.shmall": specs.IPCNamespace, "kernel.shmmax": specs.IPCNamespace,
	"kernel.shmmni": specs.IPCNamespace, "kernel.shm_rmid_forced": specs.IPCNamespace,
	"kernel.domainname": specs.UTSNamespace, "kernel.hostname": specs.UTSNamespace,
}

func (c *compiler) bareSysctls() error {
	for name := range c.b.Spec.Linux.Sysctl {
		dotted := strings.ReplaceAll(name, "/", ".")
		owner, known := sysctlNamespaces[dotted]
		for prefix, t := range sysctlNamespaces {
			if strings.HasSuffix(prefix, ".") && strings.HasPrefix(dotted, prefix) {
				owner, known = t, true
			}
		}
		switch {
		case !known:
			return invalid("sysctl %q is not in a separate kernel namespace", name)
		case !c.has(owner):
			return invalid("sysctl %q needs a %s namespace, which the container does not have", name, owner)
		}
	}
	return nil
}

// hold has the stage wait while hooks are run, if there are any. What they do to the
// network has to be there when parameters are set.
func (c *compiler) hold() error {
	h := c.b.Spec.Hooks
	if c.b.bare != nil && h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 { //nolint:staticcheck // the old name counts as well
		c.step(plan.Step{Name: "hooks", Op: plan.OpHold})
	}
	return nil
}

// keep passes on the files that the caller of create has left open.
func (c *compiler) keep() error {
	if c.b.bare == nil || len(c.b.bare.Keep) == 0 {
		return nil
	}
	first := len(c.out.plan.Files)
	for _, f := range c.b.bare.Keep {
		c.file("passed on: "+f.Name(), source{kind: sourceGiven, given: f})
	}
	c.step(plan.Step{Name: "files", Op: plan.OpKeep, File: first, Count: len(c.b.bare.Keep)})
	return nil
}

// meet puts the rendezvous before the last steps: limits, the filter and exec.
func (c *compiler) meet(steps []plan.Step) []plan.Step {
	if c.b.bare == nil {
		return steps
	}
	at := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Op.Last() })
	if at < 0 {
		at = len(steps)
	}
	return slices.Insert(steps, at, plan.Step{
		Name: "wait for start", Op: plan.OpRendezvous, File: c.file("socket", source{kind: sourceGiven, given: c.b.bare.Rendezvous}),
	})
}

// noProcess is the end of the plan of a container whose document names no program:
// everything else is there, and starting it fails.
func (c *compiler) noProcess() error {
	c.before = append(c.before, c.meet(nil)...)
	return nil
}
