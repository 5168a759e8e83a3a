package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/portholehq/porthole/api"
)

// ForwardOptions say what Forward opens.
type ForwardOptions struct {
	HostIP   string // empty: the loopback addresses
	HostPort uint16 // 0: any free port
	Port     string // of the container, as in 80/tcp
}

// Forward opens a port of the host that leads to a running container, also to a
// server that listens on the container's loopback address only. It returns all
// ports that were opened so; the last ones are the new ones.
func (c *Client) Forward(ctx context.Context, container string, o ForwardOptions) ([]api.Forward, error) {
	q := url.Values{"port": {o.Port}}
	if o.HostPort != 0 {
		q.Set("hostPort", strconv.Itoa(int(o.HostPort)))
	}
	if o.HostIP != "" {
		q.Set("hostIp", o.HostIP)
	}
	var out []api.Forward
	err := c.post(ctx, forwardsPath(container)+"?"+q.Encode(), &out)
	return out, err
}

// Unforward closes a port that Forward has opened.
func (c *Client) Unforward(ctx context.Context, container string, hostPort uint16) error {
	return c.answer(ctx, http.MethodDelete, forwardsPath(container)+"?hostPort="+strconv.Itoa(int(hostPort)), new(struct{}))
}

// Forwards lists the ports that Forward has opened.
func (c *Client) Forwards(ctx context.Context, container string) ([]api.Forward, error) {
	var out []api.Forward
	err := c.get(ctx, forwardsPath(container), &out)
	return out, err
}

func forwardsPath(container string) string {
	return "/porthole/containers/" + url.PathEscape(container) + "/forwards"
}

// Names tells whom a running container asks for names, and what it has asked.
func (c *Client) Names(ctx context.Context, container string) (api.Names, error) {
	var out api.Names
	err := c.get(ctx, "/porthole/containers/"+url.PathEscape(container)+"/names", &out)
	return out, err
}

// NetworkCheck walks from a container, or from "host", to HOST:PORT and tells hop
// by hop how far a connection gets. It takes some seconds if packets are dropped.
func (c *Client) NetworkCheck(ctx context.Context, from, target string) ([]api.Hop, error) {
	var out []api.Hop
	err := c.post(ctx, "/porthole/net/check?"+url.Values{"from": {from}, "target": {target}}.Encode(), &out)
	return out, err
}

// Reach tells who can reach the ports of a running container; port 0: all.
func (c *Client) Reach(ctx context.Context, container string, port uint16) (api.Reach, error) {
	path := "/porthole/containers/" + url.PathEscape(container) + "/reach"
	if port != 0 {
		path += "?port=" + strconv.Itoa(int(port))
	}
	var out api.Reach
	err := c.get(ctx, path, &out)
	return out, err
}
