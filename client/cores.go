package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/portholehq/porthole/api"
)

// Cores returns the cores that the daemon keeps, the newest first: all, or those of
// a container, which may be gone.
func (c *Client) Cores(ctx context.Context, container string) ([]api.Core, error) {
	path := "/porthole/cores"
	if container != "" {
		path += "?" + url.Values{"container": {container}}.Encode()
	}
	var out []api.Core
	err := c.get(ctx, path, &out)
	return out, err
}

// Core tells of a core, by its id, or the newest of a container.
func (c *Client) Core(ctx context.Context, ref string) (api.Core, error) {
	var out api.Core
	err := c.get(ctx, "/porthole/cores/"+url.PathEscape(ref), &out)
	return out, err
}

// CoreRead reads the ELF file of a core. One that breaks off ends with
// io.ErrUnexpectedEOF. The caller closes it.
func (c *Client) CoreRead(ctx context.Context, ref string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, "/porthole/cores/"+url.PathEscape(ref)+"/elf", http.NoBody)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// CoreRemove removes a core, by its id or the beginning of it.
func (c *Client) CoreRemove(ctx context.Context, id string) error {
	return c.answer(ctx, http.MethodDelete, "/porthole/cores/"+url.PathEscape(id), new(struct{}))
}
