package builds

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newInspect(a *command.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [BUILD...]",
		Short: "Show all that is recorded of builds, of the newest one without BUILD",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{last}
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Inspect(args, format, func(name string) (command.Object, error) {
				b, err := c.Build(cmd.Context(), name)
				return command.Object{Value: command.Value(b)}, err
			})
		},
		ValidArgsFunction:     a.CompleteBuilds(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
	return cmd
}
