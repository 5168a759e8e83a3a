package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/portholehq/porthole/api"
)

// ImageLayers tells what the layers of an image are made of, and the largest files,
// at most so many, which are in one of them but hidden by another.
func (c *Client) ImageLayers(ctx context.Context, image string, hidden int) (api.ImageLayers, error) {
	var out api.ImageLayers
	err := c.get(ctx, imagePath(image)+"/layers?hidden="+strconv.Itoa(hidden), &out)
	return out, err
}

// ImageBlame tells which layers of an image had to do with a path. The error is
// errdefs.ErrNotFound if none had.
func (c *Client) ImageBlame(ctx context.Context, image, path string) (api.ImageBlame, error) {
	var out api.ImageBlame
	err := c.get(ctx, imagePath(image)+"/blame?path="+url.QueryEscape(path), &out)
	return out, err
}

// imagePath leaves the slashes of a name as they are.
func imagePath(image string) string {
	return "/porthole/images/" + (&url.URL{Path: image}).EscapedPath()
}
