package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/event"
)

// eventTypes are the streams of JSON that a client may ask for.
var eventTypes = []string{"application/x-ndjson", "application/jsonl", "application/json-seq"}

// eventType is the client's choice, or Docker's label for a stream that is not
// quite JSON.
func eventType(h http.Header) string {
	for _, accept := range h.Values("Accept") {
		for kind := range strings.SplitSeq(accept, ",") {
			kind, _, _ = strings.Cut(strings.TrimSpace(kind), ";")
			for _, known := range eventTypes {
				if kind == known {
					return known
				}
			}
		}
	}
	return "application/json"
}

func (s *Server) events(r *request) error {
	o, err := eventsOptions(r)
	if err != nil {
		return err
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	kind := eventType(r.http.Header)
	// Many events at once are sent together, a single one after a moment.
	var gather *lazyWriter
	defer func() {
		if gather != nil {
			gather.stop()
		}
	}()
	out := jsonStream{separator: kind == "application/json-seq"}
	// The headers promise that nothing will be missed from now on.
	o.Opened = func() {
		gather = newLazyWriter(r.w, func() { r.w.Header().Set("Content-Type", kind) })
		gather.open()
		out.w = gather
	}
	err = s.backend.Events(ctx, o, func(rec event.Record) error { return out.event(r, rec) })
	switch {
	case ctx.Err() != nil || errors.Is(err, errClientGone):
		return nil
	case err != nil && r.w.begun():
		// An end in order would tell that all was sent.
		r.log.Warn("events ended early", "err", err)
		gather.stop()
		panic(http.ErrAbortHandler)
	case err != nil:
		return err
	}
	return gather.flush()
}

func eventsOptions(r *request) (o engine.EventsOptions, err error) {
	if o.Since, err = r.timestamp("since"); err != nil {
		return o, invalid("invalid value for 'since': %w", err)
	}
	if o.Until, err = r.timestamp("until"); err != nil {
		return o, invalid("invalid value for 'until': %w", err)
	}
	if !o.Until.IsZero() && o.Until.Before(o.Since) {
		return o, invalid("`since` time (%s) cannot be after `until` time (%s)", r.form.Get("since"), r.form.Get("until"))
	}
	if text := r.form.Get("after"); text != "" {
		if o.After, err = strconv.ParseUint(text, 10, 64); err != nil || o.After == 0 {
			return o, invalid("invalid value for 'after': %q is not the number of an event", text)
		}
	}
	o.Filters, err = r.filters()
	return o, err
}

// wireEvent is an event with what the API lost long ago, but clients up to 25.0
// need.
type wireEvent struct {
	Status events.Action `json:"status,omitempty"`
	ID     string        `json:"id,omitempty"`
	From   *string       `json:"from,omitempty"`
	api.Event
}

// event writes one event in the form of the client's API version.
func (j jsonStream) event(r *request, rec event.Record) error {
	m := rec.Message
	if r.before(46) && m.Type == events.ImageEventType && m.Action == events.ActionCreate {
		return nil
	}
	out := wireEvent{Event: api.Event{Message: m, Porthole: api.EventOrigin{Seq: rec.Seq, Actor: actor(rec.By)}}}
	switch m.Type {
	case events.ContainerEventType:
		from := m.Actor.Attributes["image"]
		out.Status, out.ID, out.From = m.Action, m.Actor.ID, &from
	case events.ImageEventType:
		out.Status, out.ID = m.Action, m.Actor.ID
	}
	return j.write(out)
}

// actor is the wire's form of who asked for something; nil is nobody.
func actor(o *event.Origin) api.Actor {
	if o == nil {
		return api.Actor{}
	}
	return api.Actor(*o)
}
