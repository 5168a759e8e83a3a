package volumes

import (
	"context"
	"slices"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/volume"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type listOptions struct {
	command.ListFlags
	quiet bool
	// cluster shows only volumes of a cluster, and what those have.
	cluster bool
	filter  opts.FilterOpt
}

func newList(a *command.App) *cobra.Command {
	o := listOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only display volume names")
	o.Add(set)
	set.VarP(&o.filter, "filter", "f", `Provide filter values (e.g. "dangling=true")`)
	set.BoolVar(&o.cluster, "cluster", false, "Display only cluster volumes, and use cluster volume list formatting")
	return cmd
}

func (o *listOptions) run(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.VolumeList(ctx, mobyclient.VolumeListOptions{Filters: o.filter.Value()})
	if err != nil {
		return err
	}
	slices.SortFunc(res.Items, func(x, y volume.Volume) int { return command.CompareNatural(x.Name, y.Name) })
	if done, err := o.JSON(a.Out, res.Items); done {
		return err
	}
	if o.cluster {
		res.Items = slices.DeleteFunc(res.Items, func(v volume.Volume) bool { return v.ClusterVolume == nil })
	}
	return formatter.VolumeWrite(formatter.Context{
		Output: command.TableWriter(a.Out, o.format(a)),
		Format: formatter.NewVolumeFormat(o.format(a), o.quiet),
	}, res.Items)
}

func (o *listOptions) format(a *command.App) string {
	switch {
	case o.quiet:
		return o.Or("")
	case o.cluster:
		return o.Or(`table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}`)
	}
	return o.Or(a.Config().VolumesFormat)
}
