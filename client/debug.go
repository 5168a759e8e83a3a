package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/portholehq/porthole/api"
)

// Debug prepares a debug session. It is started, and connected with, by
// ExecAttach, like an exec, and ends when that connection does.
func (c *Client) Debug(ctx context.Context, req api.DebugRequest) (api.DebugSession, error) {
	var out api.DebugSession
	err := c.ask(ctx, "/porthole/debug", req, &out)
	return out, err
}

// ask posts a request in JSON and reads the answer.
func (c *Client) ask(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// DebugSession tells of a session, for some minutes also of one that has ended:
// then with what it has changed.
func (c *Client) DebugSession(ctx context.Context, id string) (api.DebugSession, error) {
	var out api.DebugSession
	err := c.get(ctx, "/porthole/debug/"+url.PathEscape(id), &out)
	return out, err
}

// DebugSessions lists the sessions that run, the oldest first.
func (c *Client) DebugSessions(ctx context.Context) ([]api.DebugSession, error) {
	var out []api.DebugSession
	err := c.get(ctx, "/porthole/debug", &out)
	return out, err
}
