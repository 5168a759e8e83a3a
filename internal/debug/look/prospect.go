package look

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/mounted"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/ns"
)

// Prospect tells how a container that does not run would be kept apart, as [Isolation]
// tells it of one that runs: by its document, so that there are no numbers of
// namespaces and nothing is in use. Of mounts there are those that were asked for.
func Prospect(ctx context.Context, src IsolationSource, ref string, p *engine.Prospect) (*api.IsolationLive, error) {
	s, err := src.Subject(ref)
	if err != nil {
		return nil, err
	}
	d := p.Document
	out := &api.IsolationLive{
		Name: s.Name, Status: string(s.Status), Privileged: s.HostConfig.Privileged, ReadonlyRoot: s.HostConfig.ReadonlyRootfs,
		Namespaces: foreseen(s, p), NoNewPrivs: d.Process.NoNewPrivileges, AppArmor: d.Process.ApparmorProfile,
		MaskedPaths: d.Linux.MaskedPaths, ReadonlyPaths: d.Linux.ReadonlyPaths, Limits: askedLimits(d.Linux.Resources),
	}
	if c := d.Process.Capabilities; c != nil {
		out.Capabilities = api.CapabilitySets{
			Effective: c.Effective, Permitted: c.Permitted, Inheritable: c.Inheritable, Ambient: c.Ambient, Bounding: c.Bounding,
		}
	}
	out.Seccomp = api.IsolationSeccomp{Mode: seccompModes["0"], Profile: profile(s, src.Facts().Seccomp)}
	if d.Linux.Seccomp != nil {
		out.Seccomp.Mode, out.Seccomp.Filters = seccompModes["2"], 1
	}
	if n := d.Process.OOMScoreAdj; n != nil {
		out.OOMScoreAdj = *n
	}
	for _, l := range d.Process.Rlimits {
		out.Rlimits = append(out.Rlimits, api.Rlimit{Name: strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), Soft: rlimitText(l.Soft), Hard: rlimitText(l.Hard)})
	}
	m, err := mounted.Look(ctx, src, mounted.Options{Container: s.ID})
	if err != nil {
		return nil, err
	}
	out.Mounts = m.Mounts
	return out, ctx.Err()
}

// kindsOf are the kinds of namespaces by what documents call them.
var kindsOf = map[specs.LinuxNamespaceType]ns.Kind{
	specs.CgroupNamespace: ns.Cgroup, specs.IPCNamespace: ns.IPC, specs.MountNamespace: ns.Mount, specs.NetworkNamespace: ns.Net,
	specs.PIDNamespace: ns.PID, specs.TimeNamespace: ns.Time, specs.UserNamespace: ns.User, specs.UTSNamespace: ns.UTS,
}

// foreseen tells of each kind of namespace whose it will be. Who joins another
// container has its user namespace as well.
func foreseen(s engine.Subject, p *engine.Prospect) []api.Namespace {
	own, joined := map[ns.Kind]bool{}, map[ns.Kind]string{}
	for _, n := range p.Document.Linux.Namespaces {
		own[kindsOf[n.Type]] = true
	}
	for typ, name := range p.Joined {
		joined[kindsOf[typ]] = name
		if s.IDs.Size > 0 {
			joined[ns.User] = name
		}
	}
	var list []api.Namespace
	for _, k := range kinds {
		n := api.Namespace{Kind: string(k)}
		switch name := joined[k]; {
		case name != "":
			n.SharedWith = []string{name}
		case !own[k] && (k != ns.User || s.IDs.Size == 0):
			n.Host = true
		}
		list = append(list, n)
	}
	return list
}

// askedLimits are those of a document. Of groups around the container nothing is
// known before it is started.
func askedLimits(r *specs.LinuxResources) []api.Limit {
	var list []api.Limit
	add := func(name string, value *int64) {
		l := api.Limit{Name: name}
		if value != nil && *value > 0 {
			n := uint64(*value)
			l.Value, l.Own = &n, true
		}
		list = append(list, l)
	}
	r = cmp.Or(r, &specs.LinuxResources{})
	memory, cpu := cmp.Or(r.Memory, &specs.LinuxMemory{}), cmp.Or(r.CPU, &specs.LinuxCPU{})
	add("memory", memory.Limit)
	add("memory+swap", memory.Swap)
	var processors *int64
	if cpu.Quota != nil && cpu.Period != nil && *cpu.Period > 0 {
		n := *cpu.Quota * 1000 / int64(*cpu.Period)
		processors = &n
	}
	add("cpu", processors)
	if r.Pids == nil {
		add("pids", nil)
	} else {
		add("pids", r.Pids.Limit)
	}
	return list
}

func rlimitText(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}
