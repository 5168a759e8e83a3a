package images

import (
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewGroup returns "image" with the verbs of this package.
func NewGroup(a *command.App) *cobra.Command {
	return command.Group(a, "image", "Manage images",
		newBlame(a), NewBuild(a), NewHistory(a), NewImport(a), newInspect(a), newLayers(a), NewLoad(a),
		command.Also(NewImages(a), "ls [OPTIONS] [REPOSITORY[:TAG]]", "list"),
		NewPrune(a), NewPull(a), NewPush(a),
		command.Also(NewRmi(a), "rm [OPTIONS] IMAGE [IMAGE...]", "rmi", "remove"),
		NewSave(a), NewTag(a),
	)
}

// newInspect returns "image inspect".
func newInspect(a *command.App) *cobra.Command {
	var format, platform string
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] IMAGE [IMAGE...]",
		Short: "Display detailed information on one or more images",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var options []mobyclient.ImageInspectOption
			if platform != "" {
				p, err := parsePlatforms([]string{platform})
				if err != nil {
					return err
				}
				options = append(options, mobyclient.ImageInspectWithPlatform(&p[0]))
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Inspect(args, format, func(name string) (command.Object, error) {
				return command.ImageObject(cmd.Context(), c, name, options...)
			})
		},
		ValidArgsFunction:     a.CompleteImages(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
	cmd.Flags().StringVar(&platform, "platform", "", `Inspect a specific platform of the multi-platform image.
If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	return cmd
}
