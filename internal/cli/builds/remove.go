package builds

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

func newRemove(a *command.App) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] [BUILD...]",
		Aliases: []string{"remove"},
		Short:   "Remove the records of builds and the logs of their steps; images and the cache stay",
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return command.NoArgs(cmd, args)
			}
			return command.MinArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if all {
				if args, err = ended(cmd.Context(), c); err != nil {
					return err
				}
			}
			return a.InTurn(cmd.Context(), args, c.RemoveBuild)
		},
		ValidArgsFunction:     a.CompleteBuilds(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Remove all that have ended")
	return cmd
}

// ended lists the builds that have ended.
func ended(ctx context.Context, c *client.Client) ([]string, error) {
	list, err := c.Builds(ctx, 0)
	var ids []string
	for _, b := range list {
		if b.State != api.BuildRunning {
			ids = append(ids, b.ID)
		}
	}
	return ids, err
}
