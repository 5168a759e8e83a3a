package containers

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewWait returns "wait".
func NewWait(a *command.App) *cobra.Command {
	var condition string
	cmd := &cobra.Command{
		Use:   "wait CONTAINER [CONTAINER...]",
		Short: "Block until one or more containers stop, then print their exit codes",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wait(cmd.Context(), a, args, container.WaitCondition(condition))
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&condition, "condition", "", "Wait until not-running (default), next-exit or removed")
	return command.Common(cmd, 0, "container wait", "wait")
}

// wait begins to wait for all of them at once, so that none of the ends is missed, and prints in the order of the names.
func wait(ctx context.Context, a *command.App, names []string, condition container.WaitCondition) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	var list []mobyclient.ContainerWaitResult
	for _, name := range names {
		list = append(list, c.ContainerWait(ctx, name, mobyclient.ContainerWaitOptions{Condition: condition}))
	}
	var errs []error
	for _, result := range list {
		select {
		case r := <-result.Result:
			_, _ = fmt.Fprintln(a.Out, r.StatusCode)
		case err := <-result.Error:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
