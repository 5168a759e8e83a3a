package engine

import (
	"context"
	"regexp"
	"slices"
	"strings"

	mobynet "github.com/moby/moby/api/types/network"
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
	list := []mobynet.Summary{}
	for _, n := range e.deps.Network.List() {
		if !f.Exact("driver", n.Driver) || !f.Exact("scope", n.Scope) || !f.Labels("label", n.Labels) || !partOf(f["name"], n.Name) || !partOf(f["id"], n.ID) {
			continue
		}
		// The networks that always exist are builtin, and never dangling.
		if !f.Exact("type", "builtin") || (f.Has("dangling") && dangling) {
			continue
		}
		list = append(list, n)
	}
	return list, nil
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
