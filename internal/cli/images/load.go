package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/platforms"
	mobyclient "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type loadOptions struct {
	input     string
	quiet     bool
	platforms []string
}

// NewLoad returns "load".
func NewLoad(a *command.App) *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load an image from a tar archive or STDIN",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the load output")
	set.StringSliceVar(&o.platforms, "platform", nil,
		`Load only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8").`)
	return command.Common(cmd, 0, "image load", "load")
}

func (o *loadOptions) run(ctx context.Context, a *command.App) error {
	input := a.In
	if o.input != "" {
		file, err := os.Open(o.input)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		input = file
	} else if a.InIsTerminal() {
		return errors.New("requested load from stdin, but stdin is empty")
	}
	only, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	var options []mobyclient.ImageLoadOption
	if o.quiet || !a.OutIsTerminal() {
		options = append(options, mobyclient.ImageLoadWithQuiet(true))
	}
	if len(only) > 0 {
		options = append(options, mobyclient.ImageLoadWithPlatforms(only...))
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	// The reader is wrapped so that the transport does not close standard
	// input.
	stream, err := c.ImageLoad(ctx, io.NopCloser(input), options...)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	return a.Progress(ctx, stream, a.Out)
}

func parsePlatforms(list []string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, s := range list {
		p, err := platforms.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("invalid platform: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}
