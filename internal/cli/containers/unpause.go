package containers

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewUnpause returns "unpause".
func NewUnpause(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unpause CONTAINER [CONTAINER...]",
		Short: "Unpause all processes within one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Each(cmd.Context(), args, func(ctx context.Context, name string) error {
				_, err := c.ContainerUnpause(ctx, name, mobyclient.ContainerUnpauseOptions{})
				return err
			}, nil)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Paused),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container unpause", "unpause")
}
