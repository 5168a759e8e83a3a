package volumes

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newInspect(a *command.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] VOLUME [VOLUME...]",
		Short: "Display detailed information on one or more volumes",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Inspect(args, format, func(name string) (command.Object, error) {
				return command.VolumeObject(cmd.Context(), c, name)
			})
		},
		ValidArgsFunction:     a.CompleteVolumes(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
	return cmd
}
