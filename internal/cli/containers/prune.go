package containers

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newPrune returns "container prune".
func newPrune(a *command.App) *cobra.Command {
	var force bool
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove all stopped containers",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				yes, err := a.Confirm(cmd.Context(), "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?")
				if err != nil {
					return err
				}
				if !yes {
					return command.Cancelled("container prune has been cancelled")
				}
			}
			reclaimed, text, err := Prune(cmd.Context(), a, filter.Value())
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
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
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
