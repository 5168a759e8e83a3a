package command

import (
	"bytes"
	"context"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/client"
)

// ContainerObject fetches a container.
func ContainerObject(ctx context.Context, c *client.Client, name string, size bool) (Object, error) {
	res, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{Size: size})
	return Object{Value: view[containerView](res.Raw), Raw: res.Raw}, err
}

// ImageObject fetches an image.
func ImageObject(ctx context.Context, c *client.Client, name string, options ...mobyclient.ImageInspectOption) (Object, error) {
	var raw bytes.Buffer
	res, err := c.ImageInspect(ctx, name, append(options, mobyclient.ImageInspectWithRawResponse(&raw))...)
	return Object{Value: Value(res.InspectResponse), Raw: raw.Bytes()}, err
}

// NetworkObject fetches a network.
func NetworkObject(ctx context.Context, c *client.Client, name string, o mobyclient.NetworkInspectOptions) (Object, error) {
	res, err := c.NetworkInspect(ctx, name, o)
	return Object{Value: view[networkView](res.Raw), Raw: res.Raw}, err
}

// VolumeObject fetches a volume.
func VolumeObject(ctx context.Context, c *client.Client, name string) (Object, error) {
	res, err := c.VolumeInspect(ctx, name, mobyclient.VolumeInspectOptions{})
	return Object{Value: Value(res.Volume), Raw: res.Raw}, err
}
