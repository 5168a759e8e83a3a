package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/portholehq/porthole/api"
)

// WhyOptions select what [Client.Why] explains.
type WhyOptions struct {
	Run     int  // 0: the present or last one
	History bool // list all runs that are known
}

// Why tells why a container ended, or what it does; by name or id, also of one
// that was removed, as long as its death is recorded.
func (c *Client) Why(ctx context.Context, container string, o WhyOptions) (api.Why, error) {
	query := url.Values{}
	if o.Run != 0 {
		query.Set("run", strconv.Itoa(o.Run))
	}
	if o.History {
		query.Set("history", "1")
	}
	path := "/porthole/containers/" + url.PathEscape(container) + "/why"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var out api.Why
	err := c.get(ctx, path, &out)
	return out, err
}
