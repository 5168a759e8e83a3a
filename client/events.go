package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// EventsOptions select events. Since, Until and Filters are as in Docker's
// library; After, if it is not 0, resumes behind the event of that number.
type EventsOptions struct {
	mobyclient.EventsListOptions
	After uint64
}

// FollowEvents calls fn for each event, with its number and who asked for it. It
// returns nil when the daemon ends the stream, io.ErrUnexpectedEOF when the stream
// broke off, the cause of ctx when that ends first, or what fn returned. Of a
// Docker Engine the events have no number, and After is refused with
// [ErrNotPorthole] at the first one.
func (c *Client) FollowEvents(ctx context.Context, o EventsOptions, fn func(api.Event) error) error {
	query, err := eventsQuery(ctx, o.EventsListOptions)
	if err != nil {
		return err
	}
	if o.After > 0 {
		query.Set("after", strconv.FormatUint(o.After, 10))
	}
	path := "/events"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for dec.More() {
		var e api.Event
		if err := dec.Decode(&e); err != nil {
			return streamFailure(ctx, err)
		}
		if o.After > 0 && e.Porthole.Seq == 0 {
			return ErrNotPorthole
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return streamFailure(ctx, err)
	}
	return nil
}

func streamFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// eventsQuery returns the parameters that Docker's library would send.
func eventsQuery(ctx context.Context, o mobyclient.EventsListOptions) (url.Values, error) {
	return queryOf(func(lib *mobyclient.Client) error { return <-lib.Events(ctx, o).Err })
}
