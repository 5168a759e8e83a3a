// Package problem turns errors into what people and clients see of them: an
// HTTP status from the error's class, Docker's wording untouched, and a hint
// that names the next thing to try.
//
// Classes are those of github.com/containerd/errdefs. An error gets its class
// where it is made, its hint where the way out is known, and its status once,
// at the edge.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// StatusClientClosedRequest is what logs show for a request whose client went
// away. Nobody receives it.
const StatusClientClosedRequest = 499

// hinted is an error with a way out. Its text is that of the error alone, so
// that Docker's wording reaches Docker's clients unchanged.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint returns err with a hint: one line that names the next thing to try,
// such as "porthole logs web". A nil err stays nil, an empty hint changes
// nothing.
func WithHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{error: err, hint: hint}
}

// Hint returns the outermost hint of err, or nothing.
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// ScarceHint is for an error by which the machine is out of something, in the kernel's words; empty: it is not.
func ScarceHint(text string) string {
	switch text = strings.ToLower(text); {
	case strings.Contains(text, "no space left on device"), strings.Contains(text, "disk quota exceeded"):
		return "see what takes the space, or the inodes, below the data root with: porthole system df -v; make room with: porthole system prune"
	case strings.Contains(text, "too many open files"):
		return "the daemon may have no more files open: raise its limit (LimitNOFILE= of its unit), or see what it holds with: porthole debug daemon"
	case strings.Contains(text, "all ports are allocated"):
		return "name one that is free, or see who has the others with: porthole ps; they are those of net.ipv4.ip_local_port_range"
	case strings.Contains(text, "no free range of user ids"):
		return "see which containers are not needed with: porthole ps -a; remove those that have ended with: porthole container prune"
	case strings.Contains(text, "error setting rlimit"):
		return "nobody can have more than the daemon's own hard limit: ask for less with --ulimit, or raise it (LimitNOFILE= and the like of its unit)"
	case strings.Contains(text, "resource temporarily unavailable"): // of fork(2) and clone(2): nothing else here waits for nobody
		return "no further process can be started: see who has how many with: porthole stats --no-stream, and how many there can be with: porthole info --security"
	}
	return ""
}

// classed is an error of a class whose text does not name the class.
type classed struct {
	err   error
	class error
}

func (e *classed) Error() string   { return e.err.Error() }
func (e *classed) Unwrap() []error { return []error{e.err, e.class} }

// WithClass gives err a class, one of the errors of containerd/errdefs, and
// leaves its text. A nil err stays nil.
func WithClass(class, err error) error {
	if err == nil {
		return nil
	}
	return &classed{err: err, class: class}
}

// Errorf is fmt.Errorf for an error of a class.
func Errorf(class error, format string, args ...any) error {
	return WithClass(class, fmt.Errorf(format, args...))
}

// IsClassed tells whether err, or one that it wraps, got its class by
// [WithClass] or [Errorf].
func IsClassed(err error) bool {
	_, ok := errors.AsType[*classed](err)
	return ok
}

// statuses maps the classes to HTTP statuses. The first that matches counts, in
// the order that Docker's daemon uses.
var statuses = []struct {
	class  error
	status int
}{
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrFailedPrecondition, http.StatusBadRequest},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{context.Canceled, StatusClientClosedRequest},
}

// Status returns the HTTP status for err: that of its outermost class, 500 for
// an error without one.
func Status(err error) int {
	class := errdefs.Resolve(err)
	for _, s := range statuses {
		if errors.Is(class, s.class) {
			return s.status
		}
	}
	if errors.Is(err, context.Canceled) {
		return StatusClientClosedRequest
	}
	return http.StatusInternalServerError
}
