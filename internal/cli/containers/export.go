package containers

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewExport returns "export".
func NewExport(a *command.App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] CONTAINER",
		Short: "Export a container's filesystem as a tar archive",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return export(cmd.Context(), a, args[0], output)
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return command.Common(cmd, 0, "container export", "export")
}

func export(ctx context.Context, a *command.App, name, output string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	out, err := a.OpenArchive(output, "export container")
	if err != nil {
		return err
	}
	defer out.Discard()
	stream, err := c.ContainerExport(ctx, name, mobyclient.ContainerExportOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	return out.Fill(stream)
}
