package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/containers"
	"github.com/portholehq/porthole/internal/cli/images"
	"github.com/portholehq/porthole/internal/cli/networks"
	"github.com/portholehq/porthole/internal/cli/volumes"
)

type pruneOptions struct {
	force, all, volumes, orphans bool
	filter                       opts.FilterOpt
}

func newPrune(a *command.App) *cobra.Command {
	o := pruneOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused data",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	set.BoolVarP(&o.all, "all", "a", false, "Remove all unused images not just dangling ones")
	set.BoolVar(&o.volumes, "volumes", false, "Prune anonymous volumes")
	set.BoolVar(&o.orphans, "orphans", false, "Remove what is in the data root and belongs to nothing, see df -v")
	set.Var(&o.filter, "filter", `Provide filter values (e.g. "label=<key>=<value>")`)
	return cmd
}

// pruner removes one kind of unused thing.
type pruner struct {
	warning string
	prune   func(ctx context.Context, a *command.App, filters mobyclient.Filters) (uint64, string, error)
}

// pruners are in the order in which one makes the next possible: a removed
// container leaves its network, volumes and image unused.
func (o *pruneOptions) pruners() []pruner {
	imageWarning := "all dangling images"
	if o.all {
		imageWarning = "all images without at least one container associated to them"
	}
	list := []pruner{
		{"all stopped containers", containers.Prune},
		{"all networks not used by at least one container", func(ctx context.Context, a *command.App, f mobyclient.Filters) (uint64, string, error) {
			text, err := networks.Prune(ctx, a, f)
			return 0, text, err
		}},
	}
	if o.volumes {
		list = append(list, pruner{
			"all anonymous volumes not used by at least one container",
			func(ctx context.Context, a *command.App, f mobyclient.Filters) (uint64, string, error) {
				return volumes.Prune(ctx, a, false, f)
			},
		})
	}
	list = append(list,
		pruner{imageWarning, func(ctx context.Context, a *command.App, f mobyclient.Filters) (uint64, string, error) {
			return images.Prune(ctx, a, o.all, f)
		}},
		pruner{"unused build cache", o.pruneBuildCache},
	)
	if o.orphans {
		list = append(list, pruner{"all files in the data root that belong to nothing", pruneOrphans})
	}
	return list
}

// pruneOrphans takes no filters: what belongs to nothing has no labels.
func pruneOrphans(ctx context.Context, a *command.App, _ mobyclient.Filters) (uint64, string, error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	res, err := c.PruneOrphans(ctx)
	if err != nil || len(res.Removed) == 0 {
		return 0, "", err
	}
	var b strings.Builder
	b.WriteString("Deleted orphans:\n")
	for _, gone := range res.Removed {
		b.WriteString(gone.Path + "\n")
	}
	return uint64(res.SpaceReclaimed), b.String(), nil
}

func (o *pruneOptions) pruneBuildCache(ctx context.Context, a *command.App, filters mobyclient.Filters) (uint64, string, error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	res, err := c.BuildCachePrune(ctx, mobyclient.BuildCachePruneOptions{All: o.all, Filters: a.PruneFilters(filters)})
	if err != nil || len(res.Report.CachesDeleted) == 0 {
		return 0, "", err
	}
	return res.Report.SpaceReclaimed, "Deleted build cache objects:\n" + strings.Join(res.Report.CachesDeleted, "\n") + "\n", nil
}

func (o *pruneOptions) run(ctx context.Context, a *command.App) error {
	filters := o.filter.Value()
	if o.volumes && len(filters["until"]) > 0 {
		return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`)
	}
	list := o.pruners()
	if !o.force {
		yes, err := a.Confirm(ctx, question(list, a.PruneFilters(filters)))
		if err != nil {
			return err
		}
		if !yes {
			return command.Cancelled("system prune has been cancelled")
		}
	}
	var total uint64
	for _, p := range list {
		reclaimed, text, err := p.prune(ctx, a, filters)
		// A daemon that has no builder has no cache to prune either.
		if err != nil && !errdefs.IsNotImplemented(err) && !errdefs.IsNotFound(err) {
			return err
		}
		total += reclaimed
		if text != "" {
			_, _ = fmt.Fprintln(a.Out, text)
		}
	}
	_, _ = fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(total)))
	return nil
}

func question(list []pruner, filters mobyclient.Filters) string {
	var b strings.Builder
	b.WriteString("WARNING! This will remove:")
	for _, p := range list {
		b.WriteString("\n  - " + p.warning)
	}
	b.WriteString("\n")
	var lines []string
	for _, key := range []string{"label", "label!", "until"} {
		for value := range filters[key] {
			lines = append(lines, "\n  - "+key+"="+value)
		}
	}
	if len(lines) > 0 {
		slices.Sort(lines)
		b.WriteString("\n  Items to be pruned will be filtered with:" + strings.Join(lines, "") + "\n")
	}
	b.WriteString("\nAre you sure you want to continue?")
	return b.String()
}
