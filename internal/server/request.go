package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/engine"
)

// maxJSON bounds the JSON body of a request. A create request may carry a whole
// seccomp profile, which is some 100 KiB.
const maxJSON = 16 << 20

// request is one request on its way through the server.
type request struct {
	w    *response
	http *http.Request
	log  *slog.Logger
	// name is what {name} stands for in the route.
	name    string
	version version
	form    url.Values
	op      *operation
}

func (r *request) ctx() context.Context { return r.http.Context() }

// fullDuplex has the answer not wait for the end of the request's body, which a client ends to say that it has enough.
// The connection is closed afterwards: at a body that ends after its answer, net/http reads for the next request twice at
// once, and panics (go.dev/issue/68560).
func (r *request) fullDuplex() error {
	r.w.Header().Set("Connection", "close")
	return http.NewResponseController(r.w).EnableFullDuplex()
}

// before tells whether the client speaks an API older than 1.minor.
func (r *request) before(minor int) bool { return r.version < v(minor) }

// flag reads a yes-or-no parameter the way Docker does: anything but "", 0, no,
// false and none is yes.
func (r *request) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.form.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	default:
		return true
	}
}

// flagOn is flag for what is so unless the client says otherwise.
func (r *request) flagOn(key string) bool { return !r.form.Has(key) || r.flag(key) }

// number reads an optional number.
func (r *request) number(key string) (value int, given bool, err error) {
	text := r.form.Get(key)
	if text == "" {
		return 0, false, nil
	}
	value, err = strconv.Atoi(text)
	if err != nil {
		return 0, false, invalid("%w", err)
	}
	return value, true, nil
}

// size reads a terminal's height or width, with Docker's words for wrong ones.
func (r *request) size(key, what string) (uint, error) {
	text := r.form.Get(key)
	value, err := parseUint32(text)
	if err != nil {
		return 0, invalid("invalid resize %s %q: %w", what, text, err)
	}
	return value, nil
}

func parseUint32(text string) (uint, error) {
	digits, negative := strings.CutPrefix(text, "-")
	if digits == "" || digits[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	value, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	if negative {
		return 0, strconv.ErrRange
	}
	return uint(value), nil
}

// filters reads the filters parameter.
func (r *request) filters() (engine.Filters, error) {
	return engine.ParseFilters(r.form.Get("filters"))
}

// timestamp reads seconds[.nanoseconds] since 1970; absent gives zero.
func (r *request) timestamp(key string) (time.Time, error) {
	text := r.form.Get(key)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := parseTimestamp(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: %w", text, err)
	}
	return t, nil
}

func parseTimestamp(text string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid seconds %q: %w", whole, errors.Unwrap(err))
	}
	if len(fraction) > 20 || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("invalid nanoseconds: %q", fraction)
	}
	nano, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid nanoseconds: %q", fraction)
	}
	return time.Unix(seconds, nano).UTC(), nil
}

// platforms reads parameters that hold a platform as JSON each.
func (r *request) platforms(key string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, text := range r.form[key] {
		if text == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, invalid("failed to parse platform: %w", err)
		}
		if p.OS == "" || p.Architecture == "" {
			if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
				return nil, invalid("optional platform fields provided, but OS and Architecture are missing")
			}
			return nil, invalid("both OS and Architecture must be provided")
		}
		out = append(out, p)
	}
	return out, nil
}

// checkJSON refuses a body of another type.
func (r *request) checkJSON() error {
	text := r.http.Header.Get("Content-Type")
	if text == "" && r.http.ContentLength == 0 {
		return nil
	}
	kind, _, err := mime.ParseMediaType(text)
	if err != nil {
		return invalid("malformed Content-Type header (%s): %w", text, err)
	}
	if kind != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", text)
	}
	return nil
}

// readJSON decodes the body into out. An absent body leaves out as it is.
func (r *request) readJSON(out any) error {
	if err := r.checkJSON(); err != nil {
		return err
	}
	if r.http.ContentLength == 0 {
		return nil
	}
	return decodeJSON(http.MaxBytesReader(r.w, r.http.Body, maxJSON), out)
}

func decodeJSON(body io.Reader, out any) error {
	dec := json.NewDecoder(body)
	if err := dec.Decode(out); err != nil {
		if errors.Is(err, io.EOF) {
			return invalid("invalid JSON: got EOF while reading request body")
		}
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return invalid("invalid JSON: the request body is larger than %d bytes", maxJSON)
		}
		return invalid("invalid JSON: %w", err)
	}
	if dec.More() {
		return invalid("unexpected content after JSON")
	}
	return nil
}

// json answers with a value.
func (r *request) json(status int, value any) error {
	return writeJSON(r.w, status, value)
}

// done answers without a body.
func (r *request) done(status int) error {
	r.w.WriteHeader(status)
	return nil
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}

// argumentError is an error of the class "invalid argument" that keeps its
// cause and adds no words of its own.
type argumentError struct{ error }

func (e argumentError) Unwrap() []error { return []error{errdefs.ErrInvalidArgument, e.error} }

func invalid(format string, args ...any) error {
	return argumentError{fmt.Errorf(format, args...)}
}

// nonNil returns an empty list for nil, for answers in which null would break
// clients.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
