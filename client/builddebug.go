package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/jsonstream"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// BuildDebugOptions say what is built, and where it stops besides where an
// instruction fails.
type BuildDebugOptions struct {
	Build mobyclient.ImageBuildOptions
	Lines []int // of the Dockerfile, from 1
	Step  bool  // before the first instruction
	// Secrets are for RUN --mount=type=secret, by their IDs.
	Secrets map[string][]byte
}

// MaxBuildSecrets is how many bytes the secrets of a build that is debugged may
// have together.
const MaxBuildSecrets = 256 << 10

// BuildDebug builds an image of a tar stream with a debugger. It calls fn with
// what the build tells, an event if it is one, until the build has ended or ctx
// ends; then the build ends as well. The error is a *jsonstream.Error when the
// build has failed.
func (c *Client) BuildDebug(ctx context.Context, contextTar io.Reader, o BuildDebugOptions, fn func(jsonstream.Message, *api.BuildDebugEvent)) error {
	query, err := queryOf(func(m *mobyclient.Client) error {
		_, err := m.ImageBuild(ctx, nil, o.Build)
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range o.Lines {
		query.Add("break", strconv.Itoa(l))
	}
	if o.Step {
		query.Set("step", "1")
	}
	auth, err := json.Marshal(o.Build.AuthConfigs)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+mobyclient.DummyHost+"/porthole/build/debug?"+query.Encode(), contextTar)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	req.Header.Set("X-Registry-Config", base64.URLEncoding.EncodeToString(auth))
	if len(o.Secrets) > 0 {
		text, err := json.Marshal(o.Secrets)
		if err != nil {
			return err
		}
		req.Header.Set(api.BuildSecretsHeader, base64.URLEncoding.EncodeToString(text))
	}
	resp, err := c.plain.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return c.refused(resp)
	}
	for m, err := range c.Messages(resp.Body) {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("read what the build tells: %w", err)
		}
		if m.Error != nil {
			return m.Error
		}
		var d api.BuildDebug
		if m.Aux != nil && json.Unmarshal(*m.Aux, &d) == nil && d.Debug.Session != "" {
			fn(m, &d.Debug)
		} else {
			fn(m, nil)
		}
	}
	return nil
}

// BuildCommand tells a build that is debugged what to do. A verb that makes it go
// on is answered once it does; [Client.BuildDebug] tells what becomes of it.
func (c *Client) BuildCommand(ctx context.Context, session string, cmd api.BuildCommand) (api.BuildAnswer, error) {
	var out api.BuildAnswer
	text, err := json.Marshal(cmd)
	if err != nil {
		return out, err
	}
	path := "/porthole/build/debug/" + url.PathEscape(session)
	resp, err := c.send(ctx, http.MethodPost, path, bytes.NewReader(text))
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read answer of %s: %w", path, err)
	}
	return out, nil
}

// BuildExec runs a process where a build has stopped. The caller closes the
// stream, which ends the process.
func (c *Client) BuildExec(ctx context.Context, session string, e api.BuildExec) (*EndedStream, error) {
	stream, _, err := c.upgrade(ctx, "/porthole/build/debug/"+url.PathEscape(session)+"/exec", e)
	return stream, err
}

// BuildResize tells the size of the terminal of the process that
// [Client.BuildExec] runs.
func (c *Client) BuildResize(ctx context.Context, session string, height, width uint) error {
	return c.post(ctx, fmt.Sprintf("/porthole/build/debug/%s/resize?h=%d&w=%d", url.PathEscape(session), height, width), new(struct{}))
}
