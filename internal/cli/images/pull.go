// Package images has the verbs that work on images, one file each. They stand
// at the top level and in the group "image".
package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	mobyclient "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type pullOptions struct {
	all, quiet bool
	platform   string
}

// NewPull returns "pull".
func NewPull(a *command.App) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Download an image from a registry",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.all, "all-tags", "a", false, "Download all tagged images in the repository")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress verbose output")
	set.Bool("disable-content-trust", true, "Skip image verification")
	set.StringVar(&o.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Set platform if server is multi-platform capable")
	return command.Common(cmd, 5, "image pull", "pull")
}

func (o *pullOptions) run(ctx context.Context, a *command.App, name string) error {
	ref, err := tagged(a, name, o.all, o.quiet)
	if err != nil {
		return err
	}
	var platform *ocispec.Platform
	if o.platform != "" {
		p, err := platforms.Parse(o.platform)
		if err != nil {
			return err
		}
		platform = &p
	}
	out := a.Out
	if o.quiet {
		out = io.Discard
	}
	if err := pull(ctx, a, ref, o.all, platform, out); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(a.Out, ref.String())
	return nil
}

// tagged returns the reference of name with its default tag, which it tells,
// unless all tags are meant.
func tagged(a *command.App, name string, all, quiet bool) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	switch {
	case err != nil:
		return nil, err
	case all && !reference.IsNameOnly(ref):
		return nil, errors.New("tag can't be used with --all-tags/-a")
	case all || !reference.IsNameOnly(ref):
		return ref, nil
	}
	ref = reference.TagNameOnly(ref)
	if t, ok := ref.(reference.Tagged); ok && !quiet {
		_, _ = fmt.Fprintln(a.Out, "Using default tag:", t.Tag())
	}
	return ref, nil
}

// Pull fetches the image that a container is to be made of. Progress goes to
// standard error, as standard output is for the container.
func Pull(ctx context.Context, a *command.App, name string, platform *ocispec.Platform, quiet bool) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	out := a.Err
	if quiet {
		out = io.Discard
	}
	return pull(ctx, a, reference.TagNameOnly(ref), false, platform, out)
}

func pull(ctx context.Context, a *command.App, ref reference.Named, all bool, platform *ocispec.Platform, out io.Writer) error {
	auth, err := Credentials(a, ref)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	o := mobyclient.ImagePullOptions{All: all, RegistryAuth: auth}
	if platform != nil {
		o.Platforms = []ocispec.Platform{*platform}
	}
	stream, err := c.ImagePull(ctx, reference.FamiliarString(ref), o)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	return a.Progress(ctx, stream, out)
}

// hubServer is the key under which credentials for Docker Hub are kept.
const hubServer = "https://index.docker.io/v1/"

// Credentials returns what the user's configuration has for the registry of
// ref, in the form that the API wants them.
func Credentials(a *command.App, ref reference.Named) (string, error) {
	server := reference.Domain(ref)
	if server == "docker.io" || server == "index.docker.io" {
		server = hubServer
	}
	stored, err := a.Config().GetAuthConfig(server)
	if err != nil {
		return "", err
	}
	return EncodeCredentials(registry.AuthConfig{
		Username: stored.Username, Password: stored.Password, Auth: stored.Auth,
		ServerAddress: stored.ServerAddress, IdentityToken: stored.IdentityToken, RegistryToken: stored.RegistryToken,
	})
}

// EncodeCredentials returns credentials as the header X-Registry-Auth has
// them.
func EncodeCredentials(auth registry.AuthConfig) (string, error) {
	text, err := json.Marshal(auth)
	if err != nil {
		return "", fmt.Errorf("encode credentials: %w", err)
	}
	return base64.URLEncoding.EncodeToString(text), nil
}
