package images

import (
	"context"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type importOptions struct {
	changes           opts.ListOpts
	message, platform string
}

// NewImport returns "import".
func NewImport(a *command.App) *cobra.Command {
	o := importOptions{changes: opts.NewListOpts(nil)}
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
		Short: "Import the contents from a tarball to create a filesystem image",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref := ""
			if len(args) > 1 {
				ref = args[1]
			}
			return o.run(cmd.Context(), a, args[0], ref)
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.VarP(&o.changes, "change", "c", "Apply Dockerfile instruction to the created image")
	set.StringVarP(&o.message, "message", "m", "", "Set commit message for imported image")
	set.StringVar(&o.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Set platform if server is multi-platform capable")
	return command.Common(cmd, 0, "image import", "import")
}

func (o *importOptions) run(ctx context.Context, a *command.App, name, ref string) error {
	source := mobyclient.ImageImportSource{SourceName: name}
	switch {
	case name == "-":
		source.Source = a.In
	case strings.HasPrefix(name, "https://"), strings.HasPrefix(name, "http://"):
		// The daemon fetches it.
	default:
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		source = mobyclient.ImageImportSource{Source: file, SourceName: "-"}
	}
	options := mobyclient.ImageImportOptions{Message: o.message, Changes: o.changes.GetSlice()}
	if o.platform != "" {
		var err error
		if options.Platform, err = platforms.Parse(o.platform); err != nil {
			return err
		}
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	stream, err := c.ImageImport(ctx, source, ref, options)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	return a.Progress(ctx, stream, a.Out)
}
