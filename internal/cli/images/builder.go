package images

import (
	"context"
	"strings"

	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewBuilderGroup returns "builder".
func NewBuilderGroup(a *command.App) *cobra.Command {
	return command.Group(a, "builder", "Manage builds", NewBuild(a), newBuilderPrune(a))
}

// newBuilderPrune returns "builder prune".
func newBuilderPrune(a *command.App) *cobra.Command {
	var all bool
	var keep opts.MemBytes
	return command.Pruning{
		Name: "builder prune", Short: "Remove build cache", Filter: "until=24h",
		Removes: func() string {
			if all {
				return "all build cache."
			}
			return "all dangling build cache."
		},
		Flags: func(set *pflag.FlagSet) {
			set.BoolVarP(&all, "all", "a", false, "Remove all unused build cache, not just dangling ones")
			set.Var(&keep, "keep-storage", "Amount of disk space to keep for cache")
		},
		Prune: func(ctx context.Context, filters mobyclient.Filters) (uint64, string, error) {
			c, err := a.Client()
			if err != nil {
				return 0, "", err
			}
			res, err := c.BuildCachePrune(ctx, mobyclient.BuildCachePruneOptions{All: all, ReservedSpace: keep.Value(), Filters: a.PruneFilters(filters)})
			if err != nil || len(res.Report.CachesDeleted) == 0 {
				return 0, "", err
			}
			return res.Report.SpaceReclaimed, "Deleted build cache objects:\n" + strings.Join(res.Report.CachesDeleted, "\n") + "\n", nil
		},
	}.NewPrune(a)
}
