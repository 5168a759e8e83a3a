package server

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/trace"
)

// trace follows what a running container does, see [api.TraceEvent]. A client ends
// it by ending the body of its request, and gets the rest.
func (s *Server) trace(r *request) error {
	// First, so that a refusal does not wait for the end of the body.
	if err := r.fullDuplex(); err != nil {
		return err
	}
	o, err := traceOptions(r)
	if err != nil {
		return err
	}
	if r.form.Has("last") || r.form.Has("run") {
		return s.traceLast(r, o)
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	if r.http.ContentLength != 0 {
		go func() {
			_, _ = io.Copy(io.Discard, r.http.Body) // its end, or the client's
			cancel()
		}()
	}
	out := traceWriter{r: r}
	return out.end(trace.Run(ctx, s.backend, o, func(e *api.TraceEvent) error {
		err := out.write(e)
		if err == nil && e.Kind == api.TraceBegin {
			err = out.w.flush()
		}
		return err
	}))
}

// traceWriter writes events as they come. The headers go with the first: a refusal may take longer than a lazyWriter
// waits with them, and would be told as a stream that broke off.
type traceWriter struct {
	r *request
	w *lazyWriter
}

func (t *traceWriter) write(e *api.TraceEvent) error {
	if t.w == nil {
		t.w = newLazyWriter(t.r.w, func() { t.r.w.Header().Set("Content-Type", "application/x-ndjson") })
	}
	return jsonStream{w: t.w}.write(e)
}

// end sends what is left. It returns what the client has to be told of err.
func (t *traceWriter) end(err error) error {
	if t.w != nil {
		defer t.w.stop()
	}
	switch {
	case errors.Is(err, errClientGone), t.r.ctx().Err() != nil:
		return nil
	case err != nil, t.w == nil:
		return err
	}
	return t.w.flush()
}

// traceLast tells of what a black box has kept.
func (s *Server) traceLast(r *request, o trace.Options) (err error) {
	last := trace.LastOptions{Options: o}
	if text := r.form.Get("last"); text != "" {
		if last.Last, err = time.ParseDuration(text); err != nil {
			return invalid(`invalid value for "last": %w`, err)
		}
	}
	if last.Run, _, err = r.number("run"); err != nil {
		return err
	}
	out := traceWriter{r: r}
	return out.end(trace.Last(s.backend, last, out.write))
}

func traceOptions(r *request) (trace.Options, error) {
	o := trace.Options{Container: r.name, View: r.form.Get("view"), Failed: r.flag("failed"), Summary: r.flag("summary")}
	for _, list := range r.form["call"] {
		for name := range strings.SplitSeq(list, ",") {
			if name != "" {
				o.Calls = append(o.Calls, name)
			}
		}
	}
	var err error
	if text := r.form.Get("slow"); text != "" {
		if o.Slow, err = time.ParseDuration(text); err != nil {
			return o, invalid(`invalid value for "slow": %w`, err)
		}
	}
	var seconds int
	if o.Count, _, err = r.number("count"); err != nil {
		return o, err
	}
	if seconds, _, err = r.number("seconds"); err != nil {
		return o, err
	}
	o.Duration = time.Duration(seconds) * time.Second
	return o, nil
}
