package command

import (
	"strings"

	mobyclient "github.com/moby/moby/client"
)

// PruneFilters returns filters together with those that the configuration
// sets for every prune, leaving out what filters contradicts.
func (a *App) PruneFilters(filters mobyclient.Filters) mobyclient.Filters {
	out := filters.Clone()
	if out == nil {
		out = mobyclient.Filters{}
	}
	for _, f := range a.Config().PruneFilters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			continue
		}
		switch key {
		case "label":
			if out["label!"][value] {
				continue
			}
		case "label!":
			if out["label"][value] {
				continue
			}
		}
		out.Add(key, value)
	}
	return out
}
