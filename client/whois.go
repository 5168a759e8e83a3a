package client

import (
	"context"
	"net/url"

	"github.com/portholehq/porthole/api"
)

// Whois tells whose something of the daemon's host is: a pid, a port (:8080,
// 8080/udp, 10.0.0.1:80), an address, an interface or a path.
func (c *Client) Whois(ctx context.Context, what string) (api.Whois, error) {
	var out api.Whois
	err := c.get(ctx, "/porthole/whois?"+url.Values{"what": {what}}.Encode(), &out)
	return out, err
}
