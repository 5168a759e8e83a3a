package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type pushOptions struct {
	all, quiet bool
	platform   string
}

// NewPush returns "push".
func NewPush(a *command.App) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] NAME[:TAG]",
		Short: "Upload an image to a registry",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.all, "all-tags", "a", false, "Push all tags of an image to the repository")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress verbose output")
	set.Bool("disable-content-trust", true, "Skip image signing")
	set.StringVar(&o.platform, "platform", "", `Push a platform-specific manifest as a single-platform image to the registry.
Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	return command.Common(cmd, 6, "image push", "push")
}

func (o *pushOptions) run(ctx context.Context, a *command.App, name string) error {
	options := mobyclient.ImagePushOptions{All: o.all}
	if o.platform != "" {
		p, err := platforms.Parse(o.platform)
		if err != nil {
			return err
		}
		options.Platform = &p
	}
	ref, err := tagged(a, name, o.all, o.quiet)
	if err != nil {
		return err
	}
	if options.RegistryAuth, err = Credentials(a, ref); err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	stream, err := c.ImagePush(ctx, reference.FamiliarString(ref), options)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var notes []string
	note := func(msg jsonstream.Message) { notes = append(notes, pushNote(msg)...) }
	if o.quiet {
		if err = a.ProgressAux(ctx, stream, io.Discard, note); err == nil {
			_, _ = fmt.Fprintln(a.Out, ref.String())
		}
	} else {
		err = a.ProgressAux(ctx, stream, a.Out, note)
	}
	for _, n := range notes {
		_, _ = fmt.Fprintln(a.Err, "\nInfo →", n)
	}
	return err
}

// pushNote tells what was left out of a push, from the messages that the
// daemon adds to the progress.
func pushNote(msg jsonstream.Message) []string {
	if msg.Aux == nil {
		return nil
	}
	var aux struct {
		ManifestPushedInsteadOfIndex bool `json:"manifestPushedInsteadOfIndex"`
		ContentMissing               bool `json:"contentMissing"`
	}
	if json.Unmarshal(*msg.Aux, &aux) != nil {
		return nil
	}
	var notes []string
	if aux.ManifestPushedInsteadOfIndex {
		notes = append(notes, "Not all multiplatform-content is present and only the available single-platform image was pushed")
	}
	if aux.ContentMissing {
		notes = append(notes, "The image refers to platforms whose content is neither here nor at the registry: push one of those that are with --platform")
	}
	return notes
}
