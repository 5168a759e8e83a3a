package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/createflags"
	"github.com/portholehq/porthole/internal/cli/images"
)

// creation holds the flags of create and run that are not part of the request
// itself.
type creation struct {
	name, platform, pull string
	quiet, useAPISocket  bool
	flags                *createflags.Flags
}

const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

// NewCreate returns "create".
func NewCreate(a *command.App) *cobra.Command {
	var o creation
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create a new container",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := o.request(cmd, a, args)
			if err != nil {
				return err
			}
			id, err := o.create(cmd.Context(), a, req, o.send)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(a.Out, id)
			return nil
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	o.addFlags(cmd.Flags(), "creating")
	addCreateCompletions(cmd, a)
	return command.Common(cmd, 0, "container create", "create")
}

func (o *creation) addFlags(set *pflag.FlagSet, before string) {
	set.SetInterspersed(false)
	set.StringVar(&o.name, "name", "", "Assign a name to the container")
	set.StringVar(&o.pull, "pull", pullMissing, `Pull image before `+before+` ("always", "missing", "never")`)
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the pull output")
	set.BoolVar(&o.useAPISocket, "use-api-socket", false, "Bind mount API socket and required auth")
	set.Lookup("use-api-socket").Hidden = true
	set.Bool("help", false, "Print usage") // without -h, which is the hostname
	set.StringVar(&o.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Set platform if server is multi-platform capable")
	set.Bool("disable-content-trust", true, "Skip image verification")
	o.flags = createflags.Add(set)
}

// request builds the request from the command line.
func (o *creation) request(cmd *cobra.Command, a *command.App, args []string) (*createflags.Request, error) {
	switch o.pull {
	case pullAlways, pullMissing, pullNever, "":
	default:
		return nil, command.UsageError(cmd, fmt.Errorf("invalid pull option: '%s': must be one of %q, %q or %q",
			o.pull, pullAlways, pullMissing, pullNever))
	}
	if o.useAPISocket {
		return nil, command.UsageError(cmd, errors.New("--use-api-socket is not supported: mount the socket with --volume"))
	}
	c, err := a.Client()
	if err != nil {
		return nil, err
	}
	o.flags.SetEnvDefaults(proxyEnv(a, c.DaemonHost(), o.flags.Env()))
	serverOS, err := a.ServerOS(cmd.Context())
	if err != nil {
		return nil, err
	}
	if err := o.flags.CheckServer(serverOS); err != nil {
		return nil, err
	}
	req, err := o.flags.Request(args[0], args[1:], serverOS)
	if err != nil {
		return nil, command.UsageError(cmd, err)
	}
	return req, nil
}

// proxyEnv returns the variables that the user's configuration sets in every
// container, the proxies of this daemon, unless env sets them; then env.
func proxyEnv(a *command.App, host string, env []string) []string {
	given := opts.ConvertKVStringsToMapWithNil(env)
	var defaults []string
	for name, value := range a.Config().ParseProxyConfig(host, maps.Clone(given)) {
		if _, set := given[name]; !set && value != nil {
			defaults = append(defaults, name+"="+*value)
		}
	}
	slices.Sort(defaults)
	return append(defaults, env...)
}

// sender asks the daemon for a container.
type sender func(ctx context.Context, a *command.App, req *createflags.Request, platform *ocispec.Platform) (mobyclient.ContainerCreateResult, error)

// create makes the container by send, pulling the image first if need be, and
// returns its id.
func (o *creation) create(ctx context.Context, a *command.App, req *createflags.Request, send sender) (string, error) {
	platform, err := parsePlatform(o.platform)
	if err != nil {
		return "", err
	}
	cid, err := newIDFile(req.HostConfig.ContainerIDFile)
	if err != nil {
		return "", err
	}
	defer cid.close()
	ref, err := reference.ParseAnyReference(req.Config.Image)
	if err != nil {
		return "", err
	}
	pull := func() error { return images.Pull(ctx, a, req.Config.Image, platform, o.quiet) }
	if o.pull == pullAlways {
		if err := pull(); err != nil {
			return "", err
		}
	}
	req.HostConfig.ConsoleSize[0], req.HostConfig.ConsoleSize[1] = a.Size()

	resp, err := send(ctx, a, req, platform)
	named, isNamed := ref.(reference.Named)
	if errdefs.IsNotFound(err) && isNamed && o.pull == pullMissing {
		if !o.quiet {
			// Standard output is for the id alone.
			_, _ = fmt.Fprintf(a.Err, "Unable to find image '%s' locally\n", reference.FamiliarString(reference.TagNameOnly(named)))
		}
		if err := pull(); err != nil {
			return "", err
		}
		resp, err = send(ctx, a, req, platform)
	}
	if err != nil {
		return "", err
	}
	for _, warning := range resp.Warnings {
		_, _ = fmt.Fprintln(a.Err, "WARNING:", warning)
	}
	return resp.ID, cid.write(resp.ID)
}

func (o *creation) send(ctx context.Context, a *command.App, req *createflags.Request, platform *ocispec.Platform) (mobyclient.ContainerCreateResult, error) {
	c, err := a.Client()
	if err != nil {
		return mobyclient.ContainerCreateResult{}, err
	}
	return c.ContainerCreate(ctx, mobyclient.ContainerCreateOptions{
		Name: o.name, Platform: platform,
		Config: req.Config, HostConfig: req.HostConfig, NetworkingConfig: req.Networking,
	})
}

// parsePlatform returns nil for the empty string.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("error parsing specified platform: %w", err)
	}
	return &p, nil
}

// idFile is the file of --cidfile. It is made before the container, so that a
// place that cannot be written leaves no container behind, and goes away
// again when there is none.
type idFile struct {
	path    string
	file    *os.File
	written bool
}

func newIDFile(path string) (*idFile, error) {
	if path == "" {
		return &idFile{}, nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil, errors.New("container ID file found, make sure the other container isn't running or delete " + path)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &idFile{path: path, file: f}, nil
}

func (f *idFile) write(id string) error {
	if f.file == nil {
		return nil
	}
	if _, err := f.file.WriteString(id); err != nil {
		return fmt.Errorf("failed to write the container ID (%s) to file: %w", id, err)
	}
	f.written = true
	return nil
}

func (f *idFile) close() {
	if f.file == nil {
		return
	}
	_ = f.file.Close()
	if !f.written {
		_ = os.Remove(f.path)
	}
}
