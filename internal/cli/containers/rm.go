package containers

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewRm returns "rm".
func NewRm(a *command.App) *cobra.Command {
	var o mobyclient.ContainerRemoveOptions
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Remove one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return remove(cmd.Context(), a, args, o)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Any),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.RemoveVolumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	set.BoolVarP(&o.RemoveLinks, "link", "l", false, "Remove the specified link")
	set.BoolVarP(&o.Force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	return command.Common(cmd, 0, "container rm", "container remove", "rm")
}

func remove(ctx context.Context, a *command.App, names []string, o mobyclient.ContainerRemoveOptions) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	ignore := func(err error) bool { return o.Force && errdefs.IsNotFound(err) }
	return a.Each(ctx, names, func(ctx context.Context, name string) error {
		name = strings.Trim(name, "/")
		if name == "" {
			return errors.New("container name cannot be empty")
		}
		_, err := c.ContainerRemove(ctx, name, o)
		return err
	}, ignore)
}
