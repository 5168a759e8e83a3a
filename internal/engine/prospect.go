package engine

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// planner is a runtime that tells by which plan it would start a container.
type planner interface {
	Plan(b Bundle) (*plan.Plan, error)
}

// Prospect is how a container would be started at this moment.
type Prospect struct {
	Document *specs.Spec
	Plan     *plan.Plan                          // nil if it could not be started
	Joined   map[specs.LinuxNamespaceType]string // names, or ids, of the containers whose namespaces it would have
	Warnings []string                            // what it would not get of what was asked for
	Err      error                               // why it could not be started; nil: nothing speaks against it
}

// ContainerProspect tells how a container would be started, and does nothing of it: no source of a mount is made or looked
// at, no file is written. So a start may fail on what a prospect does not see.
func (e *Engine) ContainerProspect(ctx context.Context, ref string) (Prospect, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return Prospect{}, err
	}
	v := c.view()
	if c.damaged {
		return Prospect{}, conflict("container %s: its record is damaged", v.ID)
	}
	var p Prospect
	if p.Document, p.Warnings, err = e.describe(v); err != nil {
		return p, err
	}
	p.Joined = map[specs.LinuxNamespaceType]string{}
	for typ, id := range map[specs.LinuxNamespaceType]state.Reference{
		specs.NetworkNamespace: v.ResolvedNet, specs.IPCNamespace: v.ResolvedIPC, specs.PIDNamespace: v.ResolvedPID,
	} {
		if id == "" {
			continue
		}
		p.Joined[typ] = string(id)
		if other, err := e.viewOf(string(id)); err == nil {
			p.Joined[typ] = other.Name
		}
	}
	p.Plan, p.Err = e.planOf(ctx, v, p.Document)
	return p, nil
}

func (e *Engine) planOf(ctx context.Context, v *view, document *specs.Spec) (*plan.Plan, error) {
	join, err := e.joined(v)
	if err != nil {
		return nil, err
	}
	overlays, err := e.mountedImages(ctx, v)
	if err != nil {
		return nil, err
	}
	r, ok := e.deps.Runtime.(planner)
	if !ok {
		return nil, internal("the runtime tells no plans")
	}
	size := v.HostConfig.ConsoleSize
	return r.Plan(Bundle{
		Bundle: runtime.Bundle{
			ID: v.ID, Spec: document, Parts: parts(v.Mounts), Overlays: overlays, IDs: runtime.IDRange(v.IDs), GroupAdd: v.HostConfig.GroupAdd,
			Terminal: v.Config.Tty, ConsoleSize: [2]uint16{uint16(size[0]), uint16(size[1])}, Init: e.usesInit(v),
		},
		JoinTasks: join,
	})
}
