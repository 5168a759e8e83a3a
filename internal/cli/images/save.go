package images

import (
	"context"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type saveOptions struct {
	output    string
	platforms []string
}

// NewSave returns "save".
func NewSave(a *command.App) *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Save one or more images to a tar archive (streamed to STDOUT by default)",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteImages(-1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.output, "output", "o", "", "Write to a file, instead of STDOUT")
	set.StringSliceVar(&o.platforms, "platform", nil,
		`Save only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8")`)
	return command.Common(cmd, 0, "image save", "save")
}

func (o *saveOptions) run(ctx context.Context, a *command.App, names []string) error {
	only, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	var options []mobyclient.ImageSaveOption
	if len(only) > 0 {
		options = append(options, mobyclient.ImageSaveWithPlatforms(only...))
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	out, err := a.OpenArchive(o.output, "save image")
	if err != nil {
		return err
	}
	defer out.Discard()
	stream, err := c.ImageSave(ctx, names, options...)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	return out.Fill(stream)
}
