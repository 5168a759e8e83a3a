package containers

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newInspect returns "container inspect".
func newInspect(a *command.App) *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Display detailed information on one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Inspect(args, format, func(name string) (command.Object, error) {
				return command.ContainerObject(cmd.Context(), c, name, size)
			})
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Any),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
	cmd.Flags().BoolVarP(&size, "size", "s", false, "Display total file sizes")
	return cmd
}
