package containers

import (
	"context"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newPrune returns "container prune".
func newPrune(a *command.App) *cobra.Command {
	return command.Pruning{
		Name: "container prune", Short: "Remove all stopped containers", Filter: "until=<timestamp>",
		Removes: func() string { return "all stopped containers." },
		Prune: func(ctx context.Context, filters mobyclient.Filters) (uint64, string, error) {
			return Prune(ctx, a, filters)
		},
	}.NewPrune(a)
}

// Prune removes stopped containers and returns the bytes that this has freed
// and a list for people.
func Prune(ctx context.Context, a *command.App, filters mobyclient.Filters) (reclaimed uint64, text string, err error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	res, err := c.ContainerPrune(ctx, mobyclient.ContainerPruneOptions{Filters: a.PruneFilters(filters)})
	if err != nil || len(res.Report.ContainersDeleted) == 0 {
		return 0, "", err
	}
	return res.Report.SpaceReclaimed, "Deleted Containers:\n" + strings.Join(res.Report.ContainersDeleted, "\n") + "\n", nil
}
