package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/racing"
)

// Client is the daemon's side. It starts the keeper when it is needed, and again
// if it has ended.
type Client struct {
	o    Options
	http *http.Client

	mu sync.Mutex // held while a keeper is started
}

// Options say how a keeper is started.
type Options struct {
	Socket     string // path of the keeper's socket
	Executable string // the daemon's own program; empty: /proc/self/exe
	Version    string // a keeper of another version is replaced
}

// NewClient starts nothing yet.
func NewClient(o Options) *Client {
	if o.Executable == "" {
		o.Executable = "/proc/self/exe"
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", o.Socket)
	}
	return &Client{o: o, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Put makes a sandbox, or changes it, and returns the ports of the host. A port
// that somebody else has is an *InUseError.
func (c *Client) Put(ctx context.Context, spec Sandbox) ([]uint16, error) {
	var out Answer
	err := c.started(ctx, func() error { return c.do(ctx, http.MethodPut, "/sandboxes/"+spec.ID, spec, &out) })
	return out.HostPorts, err
}

// Drop ends a sandbox. No keeper is started for that.
func (c *Client) Drop(ctx context.Context, id string) error {
	err := c.do(ctx, http.MethodDelete, "/sandboxes/"+id, nil, nil)
	if noKeeper(err) {
		return nil
	}
	return err
}

// List returns the sandboxes of the keeper that runs; none if none does.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	var out []Status
	err := c.do(ctx, http.MethodGet, "/sandboxes", nil, &out)
	if noKeeper(err) {
		return nil, nil
	}
	return out, err
}

// Queries returns what a container has asked; a NotFound error without sandbox.
func (c *Client) Queries(ctx context.Context, id string) (Queries, error) {
	var out Queries
	err := c.do(ctx, http.MethodGet, "/sandboxes/"+id+"/queries", nil, &out)
	return out, err
}

// Replace stops a keeper of another version. It reports whether it did.
func (c *Client) Replace(ctx context.Context) (bool, error) {
	var version string
	err := c.do(ctx, http.MethodGet, "/version", nil, &version)
	if noKeeper(err) || (err == nil && version == c.o.Version) {
		return false, nil
	}
	if err == nil {
		err = c.do(ctx, http.MethodPost, "/stop", nil, nil)
	}
	if err != nil {
		return false, err
	}
	return true, c.waitFor(ctx, func() bool {
		_, err := os.Lstat(c.o.Socket)
		return errors.Is(err, os.ErrNotExist)
	})
}

// started runs f, with a new keeper if there is none.
func (c *Client) started(ctx context.Context, f func() error) error {
	err := f()
	if !noKeeper(err) {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	return f()
}

// noKeeper tells that nobody listens.
func noKeeper(err error) bool {
	return errors.Is(err, errEnding) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// Wait returns when the keeper that runs has ended, or ctx has.
func (c *Client) Wait(ctx context.Context) error {
	return c.ask(ctx, http.MethodGet, "/wait", nil, nil)
}

// start starts a keeper and waits until it listens.
func (c *Client) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var version string
	if err := c.do(ctx, http.MethodGet, "/version", nil, &version); err == nil || !noKeeper(err) {
		return err // somebody else was faster, or nothing is known
	}
	// A socket that nobody listens on is of a keeper that was killed.
	if err := os.Remove(c.o.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	proc, err := os.StartProcess(c.o.Executable, []string{Name, c.o.Socket, c.o.Version}, &os.ProcAttr{
		Dir: "/", Env: append([]string{"GOMAXPROCS=2", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, racing.Environ()...),
		Files: []*os.File{null, null, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", Name, err)
	}
	ended := make(chan struct{})
	go func() {
		_, _ = proc.Wait() // that it has ended is seen by the next request
		close(ended)
	}()
	return c.waitFor(ctx, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		_, err := os.Lstat(c.o.Socket)
		return err == nil
	})
}

// startTimeout is for a keeper on a busy machine.
const startTimeout = 20 * time.Second

func (c *Client) waitFor(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for wait := 500 * time.Microsecond; !ok(); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", Name, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
	return nil
}

// answerTimeout is for a keeper on a busy machine. Nothing that it is asked takes
// long: one that somebody has stopped must not stop the daemon.
var answerTimeout = 20 * time.Second

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errdefs.ErrUnavailable.WithMessage("it does not answer"))
	defer cancel()
	return c.ask(ctx, method, path, in, out)
}

func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	return c.stream(ctx, method, path, in, func(body io.Reader) error {
		if out == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(out)
	})
}

// stream asks, and reads the body of a good answer by read.
func (c *Client) stream(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://keeper"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", Name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return read(resp.Body)
	}
	var r Refusal
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return fmt.Errorf("ask %s: status %d", Name, resp.StatusCode)
	}
	switch {
	case r.InUse.IsValid():
		return &InUseError{Proto: r.Proto, Addr: r.InUse}
	case resp.StatusCode == http.StatusServiceUnavailable:
		return errEnding
	case resp.StatusCode == http.StatusNotFound:
		return errdefs.ErrNotFound.WithMessage(r.Message)
	}
	return errors.New(r.Message)
}
