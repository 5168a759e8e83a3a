package server

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// slowEnd is how long a client may take for what is left when a capture ends.
const slowEnd = 10 * time.Second

// packets captures packets of a container, or of "host", as a file of pcapng that
// goes on until the client is gone, count packets were captured, or seconds have
// passed. A client that sends a body by POST ends it by ending the body, and gets
// the rest: how many packets were lost stands at the end.
func (s *Server) packets(r *request) error {
	o := engine.CaptureOptions{Interface: r.form.Get("interface"), Filter: r.form.Get("filter")}
	var seconds int
	for key, to := range map[string]*int{"count": &o.Count, "snaplen": &o.SnapLen, "seconds": &seconds} {
		n, _, err := r.number(key)
		if err != nil {
			return err
		}
		if n < 0 {
			return invalid("invalid value for %q: it must not be negative", key)
		}
		*to = n
	}
	o.Duration = time.Duration(seconds) * time.Second
	ctx, cancel := s.endless(r)
	defer cancel()
	control := http.NewResponseController(r.w)
	if r.http.Method == http.MethodPost && r.http.ContentLength != 0 {
		if err := r.fullDuplex(); err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(io.Discard, r.http.Body) // its end, or the client's
			cancel()
		}()
	}
	var out *lazyWriter
	err := s.backend.ContainerCapture(ctx, r.name, o, func(capture context.Context) io.Writer {
		context.AfterFunc(capture, func() { _ = control.SetWriteDeadline(time.Now().Add(slowEnd)) })
		out = newLazyWriter(r.w, func() {
			r.w.Header().Set("Content-Type", api.PacketsType)
			r.w.Header().Set("Connection", "close") // the deadline is the connection's
		})
		return out
	})
	if out == nil {
		return err
	}
	defer out.stop()
	if err != nil {
		return err
	}
	return out.flush()
}
