package volumes

import (
	"errors"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newUpdate is the verb for volumes of a Swarm, of which there are none here.
func newUpdate(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] [VOLUME]",
		Short: "Update a volume (cluster volumes only)",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			for _, name := range args {
				if _, err := c.VolumeInspect(cmd.Context(), name, mobyclient.VolumeInspectOptions{}); err != nil {
					return err
				}
			}
			return errors.New("can only update cluster volumes")
		},
		ValidArgsFunction:     a.CompleteVolumes(1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().String("availability", "active", `Cluster Volume availability ("active", "pause", "drain")`)
	return cmd
}
