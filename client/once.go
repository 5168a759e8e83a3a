package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portholehq/porthole/api"
)

// Once makes a container that does not run ready for one run that is different.
// Within half a minute it is attached to, and started by [Client.StartOnce] with
// the token.
func (c *Client) Once(ctx context.Context, container string, req api.OnceRequest) (token string, err error) {
	var out api.OnceReady
	err = c.ask(ctx, "/porthole/containers/"+url.PathEscape(container)+"/once", req, &out)
	return out.Token, err
}

// StartOnce starts a container that Once has made ready.
func (c *Client) StartOnce(ctx context.Context, container, token string) error {
	resp, err := c.do(ctx, http.MethodPost, "/porthole/containers/"+url.PathEscape(container)+"/start-once?token="+url.QueryEscape(token))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
