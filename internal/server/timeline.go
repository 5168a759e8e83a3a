package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/portholehq/porthole/internal/debug/timeline"
)

// timeline tells all that is recorded of a container in one order.
func (s *Server) timeline(r *request) error {
	o := timeline.Options{Container: r.name, Around: r.form.Get("around")}
	var err error
	if o.Since, err = r.timestamp("since"); err != nil {
		return invalid("%w", err)
	}
	if o.Until, err = r.timestamp("until"); err != nil {
		return invalid("%w", err)
	}
	for _, list := range r.form["only"] {
		for word := range strings.SplitSeq(list, ",") {
			if word != "" {
				o.Only = append(o.Only, word)
			}
		}
	}
	window, _, err := r.number("window")
	if err != nil {
		return err
	}
	if o.Limit, _, err = r.number("limit"); err != nil {
		return err
	}
	switch {
	case window < 0 || o.Limit < 0:
		return invalid("window and limit must not be negative")
	case o.Around != "" && (!o.Since.IsZero() || !o.Until.IsZero()):
		return invalid("around excludes since and until")
	case !o.Since.IsZero() && !o.Until.IsZero() && o.Until.Before(o.Since):
		return invalid("since must not be after until")
	}
	o.Window = time.Duration(window) * time.Second
	out, err := timeline.Collect(r.ctx(), s.backend, o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}
