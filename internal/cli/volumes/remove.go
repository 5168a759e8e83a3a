package volumes

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newRemove(a *command.App) *cobra.Command {
	var o mobyclient.VolumeRemoveOptions
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] VOLUME [VOLUME...]",
		Aliases: []string{"remove"},
		Short:   "Remove one or more volumes",
		Long:    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
		Args:    command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.InTurn(cmd.Context(), args, func(ctx context.Context, name string) error {
				_, err := c.VolumeRemove(ctx, name, o)
				return err
			})
		},
		ValidArgsFunction:     a.CompleteVolumes(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "Force the removal of one or more volumes")
	return cmd
}
