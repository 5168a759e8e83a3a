package client

import (
	"context"
	"encoding/json"
	"fmt"
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
