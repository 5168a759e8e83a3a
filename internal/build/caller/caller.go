// Package caller builds by BuildKit's API, as buildx does: it sends what a build
// needs of this machine (files, secrets, credentials) as the builder asks for it,
// takes what the build leads to, and shows how far it has come.
//
// It is the client's side, and is linked into porthole-build only.
package caller

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/buildkit/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session/auth/authprovider"
	solvererrors "github.com/moby/buildkit/solver/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/buildspec"
)

// Options are what a build needs besides what it asks for.
type Options struct {
	// Dial opens a connection to the daemon that is upgraded to another protocol.
	Dial     func(ctx context.Context, path, proto string, header map[string][]string) (net.Conn, error)
	In       io.Reader
	Out, Err io.Writer
	// Config has credentials of registries.
	Config *configfile.ConfigFile
}

// Build builds. A build that failed by its own fault is a *buildspec.Failure.
func Build(ctx context.Context, o Options, r buildspec.Request) error {
	b := &build{o: o, r: r}
	defer func() { _ = b.steps.Run() }() // temporary directories
	if err := b.prepare(); err != nil {
		return err
	}
	c, err := client.New(ctx, "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.Dial(ctx, "/grpc", "h2c", nil) }),
		client.WithSessionDialer(func(ctx context.Context, proto string, header map[string][]string) (net.Conn, error) {
			return o.Dial(ctx, "/session", proto, header)
		}))
	if err != nil {
		return err
	}
	defer c.Close()
	b.solve.Session = append(b.solve.Session, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(o.Config),
	}))
	response, err := b.run(ctx, c)
	if err != nil {
		return b.failure(ctx, err)
	}
	return b.finish(response)
}

// run solves, and shows how far it has come.
func (b *build) run(ctx context.Context, c *client.Client) (*client.SolveResponse, error) {
	var response *client.SolveResponse
	statuses := make(chan *client.SolveStatus)
	var group errgroup.Group
	group.Go(func() error {
		var err error
		response, err = c.Solve(ctx, nil, b.solve, statuses)
		return err
	})
	var warnings []client.VertexWarning
	group.Go(func() error {
		// What is to be shown comes to an end with the build, also if that is
		// broken off.
		var err error
		warnings, err = b.display.UpdateFrom(context.WithoutCancel(ctx), statuses)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, w := range warnings {
		if b.r.SuppressOutput {
			break
		}
		fmt.Fprintf(b.o.Err, "WARNING: %s\n", w.Short)
	}
	return response, nil
}

// failure shows the place in the Dockerfile, and finds the code to end with.
func (b *build) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range solvererrors.Sources(err) {
		_ = s.Print(b.o.Err) // it is told besides
	}
	f := &buildspec.Failure{Code: 1, Err: err}
	var exit *gatewayapi.ExitError
	if errors.As(err, &exit) && exit.ExitCode != gatewayapi.UnknownExitStatus {
		f.Code = int(exit.ExitCode)
	}
	return f
}

// finish writes what was asked for about the result.
func (b *build) finish(response *client.SolveResponse) error {
	id := response.ExporterResponse["containerimage.config.digest"]
	if id == "" {
		id = response.ExporterResponse["containerimage.digest"]
	}
	if b.r.IIDFile != "" {
		if err := os.WriteFile(b.r.IIDFile, []byte(id), 0o666); err != nil {
			return err
		}
	}
	if b.r.MetadataFile != "" {
		text, err := json.MarshalIndent(metadata(response.ExporterResponse), "", "  ")
		if err == nil {
			err = atomicfile.Write(b.r.MetadataFile, text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write metadata of the build: %w", err)
		}
	}
	if b.r.SuppressOutput && id != "" {
		_, err := fmt.Fprintln(b.o.Out, id)
		return err
	}
	return nil
}

// metadata is what exporters tell of the result, in buildx's form: what is JSON
// within stands as such.
func metadata(response map[string]string) map[string]any {
	out := map[string]any{}
	for key, value := range response {
		out[key] = value
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(raw) == 0 || !strings.HasPrefix(string(raw), "{") || !json.Valid(raw) {
			continue
		}
		out[key] = json.RawMessage(raw)
	}
	return out
}
