package containers

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewKill returns "kill".
func NewKill(a *command.App) *cobra.Command {
	var o mobyclient.ContainerKillOptions
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Kill one or more running containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Each(cmd.Context(), args, func(ctx context.Context, name string) error {
				_, err := c.ContainerKill(ctx, name, o)
				return err
			}, nil)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&o.Signal, "signal", "s", "", "Signal to send to the container")
	completeSignals(cmd)
	return command.Common(cmd, 0, "container kill", "kill")
}
