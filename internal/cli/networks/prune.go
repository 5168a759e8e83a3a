package networks

import (
	"context"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newPrune returns "network prune".
func newPrune(a *command.App) *cobra.Command {
	return command.Pruning{
		Name: "network prune", Short: "Remove all unused networks", Filter: "until=<timestamp>", NoSpace: true,
		Removes: func() string { return "all custom networks not used by at least one container." },
		Prune: func(ctx context.Context, filters mobyclient.Filters) (uint64, string, error) {
			text, err := Prune(ctx, a, filters)
			return 0, text, err
		},
	}.NewPrune(a)
}

// Prune removes networks that nothing uses and returns a list for people.
func Prune(ctx context.Context, a *command.App, filters mobyclient.Filters) (text string, err error) {
	c, err := a.Client()
	if err != nil {
		return "", err
	}
	res, err := c.NetworkPrune(ctx, mobyclient.NetworkPruneOptions{Filters: a.PruneFilters(filters)})
	if err != nil || len(res.Report.NetworksDeleted) == 0 {
		return "", err
	}
	return "Deleted Networks:\n" + strings.Join(res.Report.NetworksDeleted, "\n") + "\n", nil
}
