package containers

import (
	"fmt"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewRename returns "rename".
func NewRename(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rename CONTAINER NEW_NAME",
		Short: "Rename a container",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if _, err := c.ContainerRename(cmd.Context(), args[0], mobyclient.ContainerRenameOptions{NewName: args[1]}); err != nil {
				return fmt.Errorf("failed to rename container: %w", err) // Docker's wording
			}
			return nil
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container rename", "rename")
}
