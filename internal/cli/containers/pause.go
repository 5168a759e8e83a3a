package containers

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewPause returns "pause".
func NewPause(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause CONTAINER [CONTAINER...]",
		Short: "Pause all processes within one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Each(cmd.Context(), args, func(ctx context.Context, name string) error {
				_, err := c.ContainerPause(ctx, name, mobyclient.ContainerPauseOptions{})
				return err
			}, nil)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container pause", "pause")
}
