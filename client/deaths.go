package client

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/portholehq/porthole/api"
)

// DeathsOptions select death records. The zero value means those of all
// containers' first processes.
type DeathsOptions struct {
	Container string // name or id, also of a container that has been removed
	Run       int    // 0: any
	Execs     bool   // those of execs as well
	Limit     int    // at most so many, newest first; 0: no limit
	Since     time.Time
}

// Deaths returns why containers ended, newest first. For a container that does not
// exist, and of which nothing is known any more, the error is errdefs.ErrNotFound.
func (c *Client) Deaths(ctx context.Context, o DeathsOptions) ([]api.Death, error) {
	query := url.Values{}
	if o.Run != 0 {
		query.Set("run", strconv.Itoa(o.Run))
	}
	if o.Execs {
		query.Set("execs", "1")
	}
	if o.Limit != 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	if !o.Since.IsZero() {
		query.Set("since", strconv.FormatInt(o.Since.Unix(), 10))
	}
	path := "/porthole/deaths"
	if o.Container != "" {
		path = "/porthole/containers/" + url.PathEscape(o.Container) + "/deaths"
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var out []api.Death
	err := c.get(ctx, path, &out)
	return out, err
}

// Health returns a container's health and all results of its checks that are kept.
func (c *Client) Health(ctx context.Context, container string) (api.Health, error) {
	var out api.Health
	err := c.get(ctx, "/porthole/containers/"+url.PathEscape(container)+"/health", &out)
	return out, err
}
