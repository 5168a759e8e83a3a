package containers

import (
	"context"
	"errors"
	"fmt"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewWait returns "wait".
func NewWait(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait CONTAINER [CONTAINER...]",
		Short: "Block until one or more containers stop, then print their exit codes",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wait(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container wait", "wait")
}

func wait(ctx context.Context, a *command.App, names []string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		result := c.ContainerWait(ctx, name, mobyclient.ContainerWaitOptions{})
		select {
		case r := <-result.Result:
			_, _ = fmt.Fprintln(a.Out, r.StatusCode)
		case err := <-result.Error:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
