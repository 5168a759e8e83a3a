package client

import (
	"context"
	"net/url"

	"github.com/portholehq/porthole/api"
)

// Mounts tells what is mounted in a container, by name or id; with all also what
// nobody asked for.
func (c *Client) Mounts(ctx context.Context, container string, all bool) (api.Mounts, error) {
	path := "/porthole/containers/" + url.PathEscape(container) + "/mounts"
	if all {
		path += "?all=1"
	}
	var out api.Mounts
	err := c.get(ctx, path, &out)
	return out, err
}
