package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// ErrNotPorthole is returned by the methods for Porthole's own endpoints when
// the daemon is a Docker Engine, which has none of them.
var ErrNotPorthole = errors.New("the daemon is not Porthole")

// maxAnswer bounds how much of an answer is read into memory.
const maxAnswer = 64 << 20

// Isolation returns how a container is kept apart from the host. Its plan is
// null unless the container runs and this daemon process has started it.
func (c *Client) Isolation(ctx context.Context, container string) (api.Isolation, error) {
	var out api.Isolation
	err := c.get(ctx, "/porthole/containers/"+url.PathEscape(container)+"/isolation", &out)
	return out, err
}

// SamplesOptions select what [Client.Samples] reads.
type SamplesOptions struct {
	Since, Until time.Time // zero: from the first, to the last
	Last         int       // the last of those only; 0: all
	Follow       bool      // go on with those that come, while the container runs
}

// Samples calls fn with the samples that are kept of a container, oldest first,
// until there are no more, ctx ends, or fn returns an error, which it returns.
func (c *Client) Samples(ctx context.Context, container string, o SamplesOptions, fn func(*api.Sample) error) error {
	q := url.Values{}
	for key, t := range map[string]time.Time{"since": o.Since, "until": o.Until} {
		if !t.IsZero() {
			q.Set(key, fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()))
		}
	}
	if o.Last > 0 {
		q.Set("last", strconv.Itoa(o.Last))
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/porthole/containers/"+url.PathEscape(container)+"/samples?"+q.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for dec := json.NewDecoder(resp.Body); ; {
		s := new(api.Sample)
		switch err := dec.Decode(s); {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("read samples of %s: %w", container, err)
		}
		if err := fn(s); err != nil {
			return err
		}
	}
}

// Execs lists the processes that were started by exec in a container and run,
// the oldest first.
func (c *Client) Execs(ctx context.Context, container string) ([]api.Exec, error) {
	var out []api.Exec
	err := c.get(ctx, "/porthole/containers/"+url.PathEscape(container)+"/execs", &out)
	return out, err
}

// ExecSignal sends a signal, empty for SIGKILL, to an exec that runs. Its id may
// be cut as long as it is the only one of the daemon's that begins so.
func (c *Client) ExecSignal(ctx context.Context, exec, signal string) (api.Exec, error) {
	var out api.Exec
	err := c.post(ctx, "/porthole/exec/"+url.PathEscape(exec)+"/signal?signal="+url.QueryEscape(signal), &out)
	return out, err
}

// ExecHint returns what to try after an exec that could not be executed, in one
// line; empty if there is nothing, or it was executed.
func (c *Client) ExecHint(ctx context.Context, exec string) (string, error) {
	var out api.ExecHint
	err := c.get(ctx, "/porthole/exec/"+url.PathEscape(exec)+"/hint", &out)
	return out.Hint, err
}

// ExecDieWithClient makes an exec that was created, and not yet started, end
// when the client that starts it goes away. With dies false it takes that back,
// before it goes away to detach.
func (c *Client) ExecDieWithClient(ctx context.Context, exec string, dies bool) error {
	return c.post(ctx, "/porthole/exec/"+url.PathEscape(exec)+"/die-with-client?set="+strconv.FormatBool(dies), new(struct{}))
}

// Operations lists what the engine has under way, the oldest first.
func (c *Client) Operations(ctx context.Context) ([]api.EngineOperation, error) {
	var out []api.EngineOperation
	err := c.get(ctx, "/porthole/operations", &out)
	return out, err
}

// DaemonState returns what the daemon's inspector shows of the daemon itself.
func (c *Client) DaemonState(ctx context.Context) (api.Daemon, error) {
	var out api.Daemon
	err := c.get(ctx, "/porthole/daemon", &out)
	return out, err
}

// Facts returns what the daemon's info has no place for.
func (c *Client) Facts(ctx context.Context) (api.Info, error) {
	var out api.Info
	err := c.get(ctx, "/porthole/system/info", &out)
	return out, err
}

// DiskLedger returns whose the bytes below the daemon's data root are.
func (c *Client) DiskLedger(ctx context.Context) (api.DiskLedger, error) {
	var out api.DiskLedger
	err := c.get(ctx, "/porthole/system/df", &out)
	return out, err
}

// PruneOrphans removes what is below the data root and has no owner.
func (c *Client) PruneOrphans(ctx context.Context) (api.OrphansPruned, error) {
	var out api.OrphansPruned
	err := c.post(ctx, "/porthole/orphans/prune", &out)
	return out, err
}

// Stacks returns the stacks of all of the daemon's goroutines as text.
func (c *Client) Stacks(ctx context.Context) (string, error) {
	resp, err := c.do(ctx, http.MethodGet, "/debug/pprof/goroutine?debug=2")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return string(text), err
}

// get asks for path and decodes the JSON answer into out.
func (c *Client) get(ctx context.Context, path string, out any) error {
	return c.answer(ctx, http.MethodGet, path, out)
}

// post is get for a request that changes something.
func (c *Client) post(ctx context.Context, path string, out any) error {
	return c.answer(ctx, http.MethodPost, path, out)
}

func (c *Client) answer(ctx context.Context, method, path string, out any) error {
	resp, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// do sends a request without a body. The caller closes the body of the answer, which is
// not an error.
func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	return c.send(ctx, method, path, http.NoBody)
}

// send sends a request with a body of JSON, or none. The caller closes the body
// of the answer, which is not an error.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	return c.sendAs(ctx, method, path, "application/json", body)
}

// sendAs is send with a body of another type.
func (c *Client) sendAs(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+mobyclient.DummyHost+path, body)
	if err != nil {
		return nil, err
	}
	if body != http.NoBody {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := c.plain.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, c.refused(resp)
}

// unreachable is the error of a request that got no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("Cannot connect to the Docker daemon at %s. Is the docker daemon running?: %w", c.host, unwrapURL(err))
}

// refused turns an answer with an error status into an error.
func (c *Client) refused(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read error of the daemon: %w", err)
	}
	var e api.Error
	if json.Unmarshal(body, &e) != nil || e.Message == "" {
		e = api.Error{Message: strings.TrimSpace(string(body))}
	}
	if resp.StatusCode == http.StatusNotFound && strings.Contains(e.Message, "page not found") {
		return ErrNotPorthole
	}
	c.refusals.add(newRefusal(resp, e))
	return newDaemonError(e.Message, resp.StatusCode)
}

// daemonError is an error that the daemon has answered with.
type daemonError struct {
	message string
	class   error
}

func newDaemonError(message string, status int) error {
	class := errhttp.ToNative(status)
	if class == nil {
		class = errdefs.ErrUnknown
	}
	return &daemonError{message: message, class: class}
}

func (e *daemonError) Error() string { return "Error response from daemon: " + e.message }
func (e *daemonError) Unwrap() error { return e.class }

func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
