package containers

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewRestart returns "restart".
func NewRestart(a *command.App) *cobra.Command {
	var o stopOptions
	cmd := &cobra.Command{
		Use:   "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Restart one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.restart(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Any),
		DisableFlagsInUseLine: true,
	}
	o.addFlags(cmd.Flags())
	completeSignals(cmd)
	return command.Common(cmd, 0, "container restart", "restart")
}

func (o *stopOptions) restart(ctx context.Context, a *command.App, names []string) error {
	timeout, err := o.seconds()
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	return a.InTurn(ctx, names, func(ctx context.Context, name string) error {
		_, err := c.ContainerRestart(ctx, name, mobyclient.ContainerRestartOptions{Signal: o.signal, Timeout: timeout})
		return err
	})
}
