package networks

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newRemove(a *command.App) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm NETWORK [NETWORK...]",
		Aliases: []string{"remove"},
		Short:   "Remove one or more networks",
		Args:    command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return remove(cmd.Context(), a, args, force)
		},
		ValidArgsFunction:     a.CompleteNetworks(-1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

func remove(ctx context.Context, a *command.App, names []string, force bool) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	failed := false
	for _, name := range names {
		_, err := c.NetworkRemove(ctx, name, mobyclient.NetworkRemoveOptions{})
		switch {
		case err == nil:
			_, _ = fmt.Fprintln(a.Out, name)
		case force && errdefs.IsNotFound(err):
		default:
			a.Report(err)
			failed = true
		}
	}
	if failed {
		return &command.StatusError{Code: 1, Text: "exit status 1"}
	}
	return nil
}
