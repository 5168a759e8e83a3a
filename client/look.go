package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// ProcessesOptions select the containers of [Client.Processes].
type ProcessesOptions struct {
	All     bool // those that do not run as well
	Filters mobyclient.Filters
}

// Processes lists the processes of all containers that run, each in the order of
// its tree.
func (c *Client) Processes(ctx context.Context, o ProcessesOptions) ([]api.ContainerProcesses, error) {
	query := url.Values{}
	if o.All {
		query.Set("all", "1")
	}
	if len(o.Filters) > 0 {
		text, err := json.Marshal(o.Filters)
		if err != nil {
			return nil, fmt.Errorf("encode filters: %w", err)
		}
		query.Set("filters", string(text))
	}
	var out []api.ContainerProcesses
	err := c.get(ctx, "/porthole/processes?"+query.Encode(), &out)
	return out, err
}

// Sockets tells what sockets the processes of a container have open; all adds those
// of others in its network namespace.
func (c *Client) Sockets(ctx context.Context, container string, all bool) (api.Sockets, error) {
	path := "/porthole/containers/" + url.PathEscape(container) + "/sockets"
	if all {
		path += "?all=1"
	}
	var out api.Sockets
	err := c.get(ctx, path, &out)
	return out, err
}

// OpenFiles tells what the processes of a container have open, and, with mapped,
// which files they have mapped into their memory.
func (c *Client) OpenFiles(ctx context.Context, container string, mapped bool) (api.OpenFiles, error) {
	path := "/porthole/containers/" + url.PathEscape(container) + "/files"
	if mapped {
		path += "?mapped=1"
	}
	var out api.OpenFiles
	err := c.get(ctx, path, &out)
	return out, err
}

// GraftOptions say what Graft mounts.
type GraftOptions struct {
	Source      string // a directory or file of the daemon's host, absolute
	Destination string // in the container, absolute
	ReadOnly    bool
}

// Graft mounts a directory or file of the host into a container that runs, until it
// is taken back or the run ends.
func (c *Client) Graft(ctx context.Context, container string, o GraftOptions) (api.Graft, error) {
	q := url.Values{"source": {o.Source}, "destination": {o.Destination}}
	if o.ReadOnly {
		q.Set("ro", "1")
	}
	var out api.Graft
	err := c.post(ctx, graftsPath(container)+"?"+q.Encode(), &out)
	return out, err
}

// Ungraft takes back what Graft has mounted.
func (c *Client) Ungraft(ctx context.Context, container, destination string) error {
	q := url.Values{"destination": {destination}}
	return c.answer(ctx, http.MethodDelete, graftsPath(container)+"?"+q.Encode(), new(struct{}))
}

// Grafts lists what Graft has mounted.
func (c *Client) Grafts(ctx context.Context, container string) ([]api.Graft, error) {
	var out []api.Graft
	err := c.get(ctx, graftsPath(container), &out)
	return out, err
}

func graftsPath(container string) string {
	return "/porthole/containers/" + url.PathEscape(container) + "/grafts"
}

// Compare tells in what two containers, or images, differ.
func (c *Client) Compare(ctx context.Context, a, b string) (api.Comparison, error) {
	q := url.Values{"a": {a}, "b": {b}}
	var out api.Comparison
	err := c.get(ctx, "/porthole/compare?"+q.Encode(), &out)
	return out, err
}
