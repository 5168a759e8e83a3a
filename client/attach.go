package client

import (
	"context"

	mobyclient "github.com/moby/moby/client"
)

// ContainerAttach is the library's method with the daemon's words as the error
// when the daemon refuses.
func (c *Client) ContainerAttach(ctx context.Context, container string, options mobyclient.ContainerAttachOptions) (mobyclient.ContainerAttachResult, error) {
	result, err := c.Client.ContainerAttach(ctx, container, options)
	return result, c.upgradeError("/containers/"+container+"/attach", err)
}

// ExecAttach is the library's method with the daemon's words as the error when
// the daemon refuses.
func (c *Client) ExecAttach(ctx context.Context, exec string, options mobyclient.ExecAttachOptions) (mobyclient.ExecAttachResult, error) {
	result, err := c.Client.ExecAttach(ctx, exec, options)
	return result, c.upgradeError("/exec/"+exec+"/start", err)
}
