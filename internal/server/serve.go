package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/problem"
)

var errPageNotFound = errdefs.ErrNotFound.WithMessage("page not found")

// errStopping is the cause of contexts that end because the daemon does.
var errStopping = errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")

// response remembers whether an answer has begun.
type response struct {
	http.ResponseWriter
	status   int
	hijacked bool
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what was written, headers included.
func (w *response) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = err == nil
	return conn, rw, err
}

// sent is the status that the client gets once the handler has returned.
func (w *response) sent() int {
	switch {
	case w.hijacked:
		return http.StatusSwitchingProtocols
	case w.status == 0:
		return http.StatusOK
	}
	return w.status
}

// begun tells whether it is too late for an error to become the answer.
func (w *response) begun() bool { return w.status != 0 || w.hijacked }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(rw http.ResponseWriter, hr *http.Request) {
	op := s.ops.begin(hr)
	defer s.ops.end(op)
	hr = hr.WithContext(event.WithOrigin(hr.Context(), op.origin(hr)))

	w := &response{ResponseWriter: rw}
	h := w.Header()
	h.Set("Server", "Porthole/"+s.opts.Version+" ("+runtime.GOOS+")")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", runtime.GOOS)
	h.Set("Docker-Experimental", fmt.Sprint(s.opts.Experimental()))

	ver, path := splitVersion(hr.URL.Path)
	r := &request{w: w, http: hr, version: maxVersion, op: op, log: s.log.With(
		slog.String("request", op.request), slog.String("method", hr.Method), slog.String("url", loggedURI(hr)))}
	err := s.answer(r, ver, path)
	if err != nil {
		s.refuse(r, ver, path, err)
	}
	if s.opts.Debug() {
		r.log.Debug("request handled", "status", w.sent(), "took", time.Since(op.since))
	}
}

// endless returns the context for an answer that lasts as long as the client
// likes: it also ends when the daemon does.
func (s *Server) endless(r *request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.ctx())
	unhook := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// answer finds the route and runs its handler. A panic there becomes an error.
func (s *Server) answer(r *request, ver, path string) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it this way.
			panic(p)
		}
		r.log.Error("request panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		err = fmt.Errorf("panic: %v", p)
	}()

	if err := checkBrowser(r.http); err != nil {
		return err
	}
	if r.http.Method == http.MethodOptions {
		return r.done(http.StatusOK)
	}
	rt, name, found := s.router.find(r.http.Method, path)
	if !found {
		return errPageNotFound
	}
	if ver != "" {
		if r.version, err = parseVersion(ver); err != nil {
			return err
		}
		if err := checkVersion(ver, r.version); err != nil {
			return err
		}
	}
	r.name = name
	if err := r.parseForm(); err != nil {
		return err
	}
	if s.opts.Debug() {
		s.logRequest(r, ver)
	}
	return rt.handle(r)
}

// parseForm reads the parameters. They count whatever the type of the body.
func (r *request) parseForm() error {
	if err := r.http.ParseForm(); err != nil && !strings.HasPrefix(err.Error(), "mime:") {
		return argumentError{err}
	}
	r.form = r.http.Form
	if r.form == nil {
		r.form = url.Values{}
	}
	return nil
}

// refuse answers with an error, unless the answer has begun.
func (s *Server) refuse(r *request, ver, path string, err error) {
	status := problem.Status(err)
	if r.ctx().Err() != nil {
		status = problem.StatusClientClosedRequest
	}
	switch {
	case status == problem.StatusClientClosedRequest:
		r.log.Info("request cancelled by client", "err", err)
	case status == http.StatusNotImplemented || status == http.StatusServiceUnavailable:
		r.log.Info("request refused", "status", status, "err", err)
	case status >= http.StatusInternalServerError:
		r.log.Error("request failed", "status", status, "err", err)
	case s.opts.Debug():
		r.log.Debug("error response", "status", status, "err", err)
	}
	if r.w.begun() {
		return
	}
	if status == http.StatusNotModified {
		r.w.WriteHeader(status)
		return
	}
	answer := api.Error{Message: err.Error(), Hint: r.hint(path, status, err)}
	setErrorHeader(r.w.Header(), answer)
	// Clients that old print the body as it is.
	if old, err := parseVersion(ver); err == nil && old < v(24) {
		http.Error(r.w, answer.Message, status)
		return
	}
	if err := writeJSON(r.w, status, answer); err != nil {
		r.log.Debug("answer not sent", "err", err)
	}
}

// maxErrorHeader keeps the header far below what clients accept.
const maxErrorHeader = 2048

// setErrorHeader repeats the error for clients that see only headers.
func setErrorHeader(h http.Header, e api.Error) {
	if len(e.Message) > maxErrorHeader {
		cut := maxErrorHeader
		for cut > 0 && !utf8.RuneStart(e.Message[cut]) {
			cut--
		}
		e.Message = e.Message[:cut]
	}
	text, err := json.Marshal(e)
	if err != nil {
		return
	}
	h.Set(api.ErrorHeader, asciiJSON(string(text)))
}

// asciiJSON escapes what lies outside of ASCII, which headers cannot carry.
func asciiJSON(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r < 0x7f: // DEL is no byte of a header either, and JSON leaves it as it is
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
