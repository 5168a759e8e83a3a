package images

import (
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewTag returns "tag".
func NewTag(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			_, err = c.ImageTag(cmd.Context(), mobyclient.ImageTagOptions{Source: args[0], Target: args[1]})
			return err
		},
		ValidArgsFunction:     a.CompleteImages(2),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().SetInterspersed(false)
	return command.Common(cmd, 0, "image tag", "tag")
}
