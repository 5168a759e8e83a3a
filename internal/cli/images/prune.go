package images

import (
	"context"
	"strconv"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewPrune returns "image prune".
func NewPrune(a *command.App) *cobra.Command {
	var all bool
	return command.Pruning{
		Name: "image prune", Short: "Remove unused images", Filter: "until=<timestamp>",
		Flags: func(set *pflag.FlagSet) {
			set.BoolVarP(&all, "all", "a", false, "Remove all unused images, not just dangling ones")
		},
		Removes: func() string {
			if all {
				return "all images without at least one container associated to them."
			}
			return "all dangling images."
		},
		Prune: func(ctx context.Context, filters mobyclient.Filters) (uint64, string, error) {
			return Prune(ctx, a, all, filters)
		},
	}.NewPrune(a)
}

// Prune removes unused images and returns the bytes that this has freed and a
// list for people.
func Prune(ctx context.Context, a *command.App, all bool, filters mobyclient.Filters) (reclaimed uint64, text string, err error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	filters = a.PruneFilters(filters)
	filters.Add("dangling", strconv.FormatBool(!all))
	res, err := c.ImagePrune(ctx, mobyclient.ImagePruneOptions{Filters: filters})
	if err != nil || len(res.Report.ImagesDeleted) == 0 {
		return res.Report.SpaceReclaimed, "", err
	}
	var b strings.Builder
	b.WriteString("Deleted Images:\n")
	for _, item := range res.Report.ImagesDeleted {
		if item.Untagged != "" {
			b.WriteString("untagged: " + item.Untagged + "\n")
			continue
		}
		b.WriteString("deleted: " + item.Deleted + "\n")
	}
	return res.Report.SpaceReclaimed, b.String(), nil
}
