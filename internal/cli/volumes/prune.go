package volumes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newPrune(a *command.App) *cobra.Command {
	var all, force bool
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused local volumes",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all && len(filter.Value()["all"]) > 0 {
				return errors.New("conflicting options: cannot specify both --all and --filter all=1")
			}
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
	set.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
	set.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	set.Var(&filter, "filter", `Provide filter values (e.g. "label=<label>")`)
	return cmd
}

func confirmPrune(ctx context.Context, a *command.App, force, all bool) error {
	if force {
		return nil
	}
	what := "anonymous local volumes"
	if all {
		what = "all local volumes"
	}
	yes, err := a.Confirm(ctx, "WARNING! This will remove "+what+" not used by at least one container.\nAre you sure you want to continue?")
	if err == nil && !yes {
		err = command.Cancelled("volume prune has been cancelled")
	}
	return err
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
