package containers

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewDiff returns "diff".
func NewDiff(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "Inspect changes to files or directories on a container's filesystem",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return diff(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container diff", "diff")
}

func diff(ctx context.Context, a *command.App, name string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.ContainerDiff(ctx, name, mobyclient.ContainerDiffOptions{})
	if err != nil {
		return err
	}
	for _, change := range res.Changes {
		kind := "C"
		switch change.Kind {
		case container.ChangeAdd:
			kind = "A"
		case container.ChangeDelete:
			kind = "D"
		case container.ChangeModify:
		}
		_, _ = fmt.Fprintln(a.Out, kind, a.Harmless(change.Path))
	}
	return nil
}
