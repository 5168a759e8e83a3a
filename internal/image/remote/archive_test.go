package remote

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestArchive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file":
			if user, password, _ := r.BasicAuth(); r.URL.RawQuery != "sig=hush" || user != "me" || password != "hush" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = io.WriteString(w, "content")
		case "/moved":
			http.Redirect(w, r, "http://me:hush@"+r.Host+"/file?sig=hush", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/private":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(server.URL+"/file", http.StatusFound))
	defer secure.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	r, err := New(Options{UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, address string
		class         error // nil: it works
		text          string
	}{
		{"a file", "http://me:hush@" + host + "/file?sig=hush", nil, ""},
		{"without a scheme", "me:hush@" + host + "/file?sig=hush", nil, ""},
		{"moved", server.URL + "/moved", nil, ""},
		{"for ever", server.URL + "/round?sig=hush", errdefs.ErrUnavailable, "stopped after 10 redirects"},
		{"none", "http://me:hush@" + host + "/none?sig=hush", errdefs.ErrNotFound, server.URL + "/none answers 404 Not Found"},
		{"no password", server.URL + "/private", errdefs.ErrPermissionDenied, "answers 401"},
		{"nobody's certificate", secure.URL + "/?sig=hush", errdefs.ErrUnavailable, "certificate"},
		{"no file", "ftp://me:hush@" + host + "/x?sig=hush", errdefs.ErrInvalidArgument, `unsupported scheme "ftp"`},
		{"no host", "http:///x?sig=hush", errdefs.ErrInvalidArgument, "is not the address of a file"},
		{"no address", "http://me:hush%zz@h/x?sig=hush", errdefs.ErrInvalidArgument, "is not the address of a file"},
		{"nobody there", "http://127.0.0.1:1/x?sig=hush", errdefs.ErrUnavailable, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			body, size, shown, err := r.Archive(t.Context(), test.address)
			if strings.Contains(shown, "hush") {
				t.Errorf("shown as %q", shown)
			}
			if test.class != nil {
				if !errors.Is(err, test.class) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "hush") {
					t.Errorf("%v, want %v: %q, and no secret", err, test.class, test.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(body)
			if err := errors.Join(err, body.Close()); err != nil || string(data) != "content" || size != int64(len(data)) {
				t.Errorf("%q of %d bytes, %v", data, size, err)
			}
		})
	}
}
