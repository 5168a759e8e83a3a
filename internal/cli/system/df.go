package system

import (
	"context"

	"github.com/docker/cli/cli/command/formatter"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type dfOptions struct {
	command.ListFlags
	verbose bool
}

func newDf(a *command.App) *cobra.Command {
	var o dfOptions
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show porthole disk usage",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show detailed information on space usage")
	o.Add(cmd.Flags())
	return cmd
}

func (o *dfOptions) run(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.DiskUsage(ctx, mobyclient.DiskUsageOptions{Verbose: o.verbose})
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, res); done {
		return err
	}
	df := formatter.DiskUsageContext{
		Context: formatter.Context{Output: a.Out, Format: formatter.NewDiskUsageFormat(o.Or(""), o.verbose)},
		Verbose: o.verbose, ImageDiskUsage: res.Images, BuildCacheDiskUsage: res.BuildCache,
		ContainerDiskUsage: res.Containers, VolumeDiskUsage: res.Volumes,
	}
	return df.Write()
}
