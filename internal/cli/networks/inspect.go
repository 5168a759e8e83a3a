package networks

import (
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newInspect(a *command.App) *cobra.Command {
	var format string
	var o mobyclient.NetworkInspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NETWORK [NETWORK...]",
		Short: "Display detailed information on one or more networks",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.Inspect(args, format, func(name string) (command.Object, error) {
				return command.NetworkObject(cmd.Context(), c, name, o)
			})
		},
		ValidArgsFunction:     a.CompleteNetworks(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
	cmd.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "Verbose output for diagnostics")
	return cmd
}
