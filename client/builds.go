package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/portholehq/porthole/api"
)

// Builds returns the records of builds, newest first and at most limit of them,
// without their steps; 0: all.
func (c *Client) Builds(ctx context.Context, limit int) ([]api.Build, error) {
	path := "/porthole/builds"
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	var out []api.Build
	err := c.get(ctx, path, &out)
	return out, err
}

// Build returns the record of a build: by its ID, the beginning of one, or
// "last". The error is errdefs.ErrNotFound if there is none.
func (c *Client) Build(ctx context.Context, ref string) (api.Build, error) {
	var out api.Build
	err := c.get(ctx, "/porthole/builds/"+url.PathEscape(ref), &out)
	return out, err
}

// RemoveBuild removes the record of a build that has ended, and the logs of its
// steps.
func (c *Client) RemoveBuild(ctx context.Context, ref string) error {
	return c.answer(ctx, http.MethodDelete, "/porthole/builds/"+url.PathEscape(ref), new(struct{}))
}

// BuildSteps returns the processes of builds: those that run, and with all those
// of the newest builds that have ended.
func (c *Client) BuildSteps(ctx context.Context, all bool) ([]api.BuildProcess, error) {
	path := "/porthole/steps"
	if all {
		path += "?all=1"
	}
	var out []api.BuildProcess
	err := c.get(ctx, path, &out)
	return out, err
}
