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

// errCaught ends a request that is only looked at.
var errCaught = errors.New("request was caught")

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// eventsQuery returns the parameters that Docker's library would send: it knows
// all forms of a time, and keeps the function that reads them to itself.
func eventsQuery(ctx context.Context, o mobyclient.EventsListOptions) (url.Values, error) {
	var query url.Values
	lib, err := mobyclient.New(
		mobyclient.WithHTTPClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			query = r.URL.Query()
			return nil, errCaught
		})}),
		mobyclient.WithAPIVersion(mobyclient.MaxAPIVersion),
	)
	if err != nil {
		return nil, err
	}
	err = <-lib.Events(ctx, o).Err
	if query == nil {
		return nil, err
	}
	return query, nil
}
