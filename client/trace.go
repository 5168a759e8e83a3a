package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/api"
)

// TraceOptions say what [Client.Trace] tells of.
type TraceOptions struct {
	View     string        // calls, dns, exec, open, signal or tcp; empty: calls
	Calls    []string      // only these system calls
	Failed   bool          // only calls that fail
	Slow     time.Duration // only calls that take so long
	Summary  bool          // count calls, and tell of none
	Count    int           // end after so many events; 0: no end
	Duration time.Duration // in whole seconds; 0: no end

	// Box asks for what the black box of a run has kept, in place of what is done from now
	// on; the container may be gone, and the answer ends by itself.
	Box  bool
	Last time.Duration // before the end of the run, or before now if it goes on; 0: all
	Run  int           // 0: the one that goes on, or the last one
}

func (o TraceOptions) query() string {
	q := url.Values{}
	for key, value := range map[string]string{"view": o.View, "call": strings.Join(o.Calls, ",")} {
		if value != "" {
			q.Set(key, value)
		}
	}
	for key, on := range map[string]bool{"failed": o.Failed, "summary": o.Summary} {
		if on {
			q.Set(key, "1")
		}
	}
	if o.Slow != 0 {
		q.Set("slow", o.Slow.String())
	}
	for key, n := range map[string]int{"count": o.Count, "seconds": int((o.Duration + time.Second - 1) / time.Second)} {
		if n != 0 {
			q.Set(key, strconv.Itoa(n))
		}
	}
	if o.Box {
		q.Set("last", o.Last.String())
		if o.Run != 0 {
			q.Set("run", strconv.Itoa(o.Run))
		}
	}
	return q.Encode()
}

// Trace calls fn with what the processes of a container do, until it ends,
// what was wanted is there, end is closed, or fn gives an error, which is
// returned. After end is closed, what the daemon has seen so far still comes. When
// ctx ends the stream breaks off.
func (c *Client) Trace(ctx context.Context, container string, o TraceOptions, end <-chan struct{}, fn func(*api.TraceEvent) error) error {
	// As with packets, the end of the request's body is how the daemon hears that it
	// is enough.
	body, writer := io.Pipe()
	var once sync.Once
	enough := func() { once.Do(func() { _ = writer.Close() }) }
	defer enough()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-end:
			enough()
		case <-over:
		}
	}()
	path := "/porthole/containers/" + url.PathEscape(container) + "/trace?" + o.query()
	resp, err := c.sendAs(ctx, http.MethodPost, path, "application/octet-stream", body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for dec := json.NewDecoder(resp.Body); ; {
		e := new(api.TraceEvent)
		switch err := dec.Decode(e); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("trace of %s: the daemon broke off", container)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("read trace of %s: %w", container, err)
		}
		if err := fn(e); err != nil {
			return err
		}
		if e.Kind == api.TraceEnd {
			return nil
		}
	}
}
