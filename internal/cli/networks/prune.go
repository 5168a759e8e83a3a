package networks

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newPrune(a *command.App) *cobra.Command {
	var force bool
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove all unused networks",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				yes, err := a.Confirm(cmd.Context(),
					"WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?")
				if err != nil {
					return err
				}
				if !yes {
					return command.Cancelled("network prune has been cancelled")
				}
			}
			text, err := Prune(cmd.Context(), a, filter.Value())
			if text != "" {
				_, _ = fmt.Fprintln(a.Out, text)
			}
			return err
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
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
