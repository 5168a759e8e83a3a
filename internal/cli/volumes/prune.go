package volumes

import (
	"context"
	"errors"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newPrune returns "volume prune".
func newPrune(a *command.App) *cobra.Command {
	var all bool
	return command.Pruning{
		Name: "volume prune", Short: "Remove unused local volumes", Filter: "label=<label>",
		Flags: func(set *pflag.FlagSet) {
			set.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
		},
		Check: func(filters mobyclient.Filters) error {
			if all && len(filters["all"]) > 0 {
				return errors.New("conflicting options: cannot specify both --all and --filter all=1")
			}
			return nil
		},
		Removes: func() string {
			what := "anonymous local volumes"
			if all {
				what = "all local volumes"
			}
			return what + " not used by at least one container."
		},
		Prune: func(ctx context.Context, filters mobyclient.Filters) (uint64, string, error) {
			return Prune(ctx, a, all, filters)
		},
	}.NewPrune(a)
}

// Prune removes volumes that nothing uses, anonymous ones only unless all. It
// returns the bytes that this has freed and a list for people.
func Prune(ctx context.Context, a *command.App, all bool, filters mobyclient.Filters) (reclaimed uint64, text string, err error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	filters = a.PruneFilters(filters)
	if all {
		filters.Add("all", "true")
	}
	res, err := c.VolumePrune(ctx, mobyclient.VolumePruneOptions{Filters: filters})
	if err != nil || len(res.Report.VolumesDeleted) == 0 {
		return 0, "", err
	}
	return res.Report.SpaceReclaimed, "Deleted Volumes:\n" + strings.Join(res.Report.VolumesDeleted, "\n") + "\n", nil
}
