package engine

import (
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/problem"
)

// A request that cannot be met must not look like a failure of the daemon.
func TestClientsFaults(t *testing.T) {
	at := func(errno unix.Errno) error {
		return fmt.Errorf("look: %w", &fs.PathError{Op: "lstat", Path: "a", Err: errno})
	}
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"byte 0 in a path", pathError(at(unix.EINVAL), "a\x00b", "web"), http.StatusBadRequest},
		{"path too long", pathError(at(unix.ENAMETOOLONG), strings.Repeat("a", 5000), "web"), http.StatusBadRequest},
		{"no such path", pathError(at(unix.ENOENT), "a", "web"), http.StatusNotFound},
		{"broken disk", pathError(at(unix.EIO), "a", "web"), http.StatusInternalServerError},
		{"link to nothing in an archive", unpackError(fmt.Errorf("unpack: %w", unix.ENOENT), "web"), http.StatusBadRequest},
		{"full disk while unpacking", unpackError(fmt.Errorf("unpack: %w", unix.ENOSPC), "web"), http.StatusInternalServerError},
		{"resize without a terminal", resizeError(fmt.Errorf("shim: %w", unix.ENOTTY)), http.StatusConflict},
		{"resize that fails", resizeError(unix.EIO), http.StatusInternalServerError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := problem.Status(tt.err); got != tt.want {
				t.Errorf("%v: status %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}
