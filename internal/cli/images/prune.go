package images

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewPrune returns "image prune".
func NewPrune(a *command.App) *cobra.Command {
	var force, all bool
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused images",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := confirmPrune(cmd.Context(), a, force, all); err != nil {
				return err
			}
			reclaimed, text, err := Prune(cmd.Context(), a, all, filter.Value())
			if err != nil {
				return err
			}
			if text != "" {
				_, _ = fmt.Fprintln(a.Out, text)
			}
			_, _ = fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(reclaimed)))
			return nil
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	set.BoolVarP(&all, "all", "a", false, "Remove all unused images, not just dangling ones")
	set.Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

func confirmPrune(ctx context.Context, a *command.App, force, all bool) error {
	if force {
		return nil
	}
	what := "all dangling images."
	if all {
		what = "all images without at least one container associated to them."
	}
	yes, err := a.Confirm(ctx, "WARNING! This will remove "+what+"\nAre you sure you want to continue?")
	if err == nil && !yes {
		err = command.Cancelled("image prune has been cancelled")
	}
	return err
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
