package problem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/containerd/errdefs"
)

func TestStatus(t *testing.T) {
	notFound := errdefs.ErrNotFound.WithMessage("No such container: web")
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"not found", notFound, http.StatusNotFound},
		{"wrapped", fmt.Errorf("cannot kill container: web: %w", notFound), http.StatusNotFound},
		{"hinted", WithHint(notFound, "porthole ps -a"), http.StatusNotFound},
		{"outermost class counts", errors.Join(errdefs.ErrConflict.WithMessage("busy"), notFound), http.StatusConflict},
		{"invalid", errdefs.ErrInvalidArgument.WithMessage("bad"), http.StatusBadRequest},
		{"exists", errdefs.ErrAlreadyExists, http.StatusConflict},
		{"not modified", errdefs.ErrNotModified, http.StatusNotModified},
		{"not implemented", errdefs.ErrNotImplemented, http.StatusNotImplemented},
		{"denied", errdefs.ErrPermissionDenied, http.StatusForbidden},
		{"unauthenticated", errdefs.ErrUnauthenticated, http.StatusUnauthorized},
		{"unavailable", errdefs.ErrUnavailable, http.StatusServiceUnavailable},
		{"cancelled", fmt.Errorf("wait: %w", context.Canceled), StatusClientClosedRequest},
		{"deadline", context.DeadlineExceeded, http.StatusInternalServerError},
		{"no class", errors.New("odd"), http.StatusInternalServerError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Status(tt.err); got != tt.want {
				t.Errorf("Status(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestHint(t *testing.T) {
	base := errors.New("No such image: x:latest")
	err := fmt.Errorf("create: %w", WithHint(base, "porthole load -i x.tar"))
	if got := Hint(err); got != "porthole load -i x.tar" {
		t.Errorf("Hint = %q", got)
	}
	if got, want := err.Error(), "create: No such image: x:latest"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
	if !errors.Is(err, base) {
		t.Error("the cause is lost")
	}
	if WithHint(nil, "x") != nil {
		t.Error("a hint made an error of nil")
	}
	if got := WithHint(base, ""); Hint(got) != "" || !errors.Is(got, base) {
		t.Errorf("an empty hint changed the error: %v", got)
	}
}
