package engine

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/network"
)

// NetworkList lists networks.
func (e *Engine) NetworkList(_ context.Context, f Filters) ([]mobynet.Summary, error) {
	if err := f.Check("driver", "id", "label", "name", "scope", "type", "dangling"); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	for _, kind := range f["type"] {
		if kind != "builtin" && kind != "custom" {
			return nil, invalid("invalid filter: 'type'='%s'", kind)
		}
	}
	list := []mobynet.Summary{}
	for _, n := range e.deps.Network.List() {
		if !f.Exact("driver", n.Driver) || !f.Exact("scope", n.Scope) || !f.Labels("label", n.Labels) || !partOf(f["name"], n.Name) || !partOf(f["id"], n.ID) {
			continue
		}
		kind := "custom"
		if isPredefined(n.Name) {
			kind = "builtin"
		}
		// The networks that always exist are never dangling.
		if !f.Exact("type", kind) || (f.Has("dangling") && dangling != (kind == "custom" && !e.networkInUse(n.Name))) {
			continue
		}
		list = append(list, n)
	}
	return list, nil
}

// networkInUse tells whether a container that runs is on the network.
func (e *Engine) networkInUse(name string) bool {
	n, err := e.deps.Network.Inspect(name)
	return err == nil && len(n.Containers) > 0
}

// partOf tells whether there are no patterns, or one of them occurs in s.
func partOf(patterns []string, s string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		if re, err := regexp.Compile(p); err == nil {
			return re.MatchString(s)
		}
		return strings.Contains(s, p)
	})
}

// NetworkInspect tells all about one network.
func (e *Engine) NetworkInspect(_ context.Context, ref string) (*mobynet.Inspect, error) {
	n, err := e.deps.Network.Inspect(ref)
	if err != nil {
		return nil, err
	}
	// The network knows the names that containers had when they were started.
	for id, ep := range n.Containers {
		if v, err := e.viewOf(id); err == nil {
			ep.Name = v.Name
			n.Containers[id] = ep
		}
	}
	return &n, nil
}

// NetworkCreate makes a network.
func (e *Engine) NetworkCreate(ctx context.Context, req mobynet.CreateRequest) (mobynet.CreateResponse, error) {
	id, err := e.deps.Network.Create(ctx, req)
	if err != nil {
		return mobynet.CreateResponse{}, err
	}
	e.emitNetworkItself(ctx, events.ActionCreate, id)
	return mobynet.CreateResponse{ID: id}, nil
}

// NetworkRemove removes a network that no running container is on.
func (e *Engine) NetworkRemove(ctx context.Context, ref string) error {
	info, err := e.deps.Network.Resolve(ref)
	if err != nil {
		return err
	}
	if info.Predefined() {
		return errdefs.ErrPermissionDenied.WithMessage(info.Name + " is a pre-defined network and cannot be removed")
	}
	if err := e.deps.Network.Remove(ctx, info.ID); err != nil {
		return err
	}
	e.emitRemovedNetwork(ctx, info)
	return nil
}

// NetworksPrune removes the networks that no running container is on.
func (e *Engine) NetworksPrune(ctx context.Context, f Filters) (mobynet.PruneReport, error) {
	report := mobynet.PruneReport{NetworksDeleted: []string{}}
	if err := f.Check("until", "label", "label!"); err != nil {
		return report, err
	}
	until, err := untilFilter(f)
	if err != nil {
		return report, err
	}
	for _, n := range e.deps.Network.List() {
		if isPredefined(n.Name) || (!until.IsZero() && n.Created.After(until)) || !f.Labels("label", n.Labels) ||
			(f.Has("label!") && f.Labels("label!", n.Labels)) || e.networkInUse(n.ID) {
			continue
		}
		err := e.deps.Network.Remove(ctx, n.ID)
		switch {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
			e.emitRemovedNetwork(ctx, network.Info{ID: n.ID, Name: n.Name, Driver: n.Driver})
		case ctx.Err() != nil:
			return report, err
		default:
			e.log.Warn("network was not pruned", "network", n.Name, "err", err)
		}
	}
	if len(report.NetworksDeleted) > 0 {
		e.emitOther(ctx, events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	}
	return report, nil
}

func (e *Engine) emitNetworkItself(ctx context.Context, action events.Action, id string) {
	info, err := e.deps.Network.Resolve(id)
	if err != nil {
		return // removed meanwhile
	}
	e.emitOther(ctx, events.NetworkEventType, action, info.ID, map[string]string{"name": info.Name, "type": info.Driver})
}

func (e *Engine) emitRemovedNetwork(ctx context.Context, info network.Info) {
	e.emitOther(ctx, events.NetworkEventType, events.ActionDestroy, info.ID, map[string]string{"name": info.Name, "type": info.Driver})
}
