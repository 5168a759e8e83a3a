package cli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
)

// fakeAPI is a daemon that has no containers but answers: it serves fixtures
// and remembers what it was asked.
type fakeAPI struct {
	host string

	mu       sync.Mutex
	requests []request
}

// request is one that a client has made. The API version is cut off its path.
type request struct {
	Method, Path string
	Query        map[string][]string `json:",omitempty"`
	Body         json.RawMessage     `json:",omitempty"`
}

var apiVersion = regexp.MustCompile(`^/v1\.[0-9]+/`)

// newFakeAPI starts a server on a socket of its own. Requests go to mux by
// method and path without the API version.
func newFakeAPI(t testing.TB, mux *http.ServeMux) *fakeAPI {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	api := &fakeAPI{host: "unix://" + socket}
	server := &http.Server{Handler: api.record(mux)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	mux.HandleFunc("GET /_ping", ping)
	mux.HandleFunc("HEAD /_ping", ping)
	return api
}

func ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Api-Version", "1.50")
	w.Header().Set("Ostype", "linux")
	w.Header().Set("Docker-Experimental", "false")
	w.Header().Set("Builder-Version", "2")
	_, _ = io.WriteString(w, "OK")
}

func (f *fakeAPI) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = apiVersion.ReplaceAllString(r.URL.Path, "/")
		req := request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query()}
		if r.Header.Get("Content-Type") == "application/json" {
			req.Body, _ = io.ReadAll(r.Body)
		}
		f.mu.Lock()
		f.requests = append(f.requests, req)
		f.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// take returns the requests since the last call.
func (f *fakeAPI) take() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.requests
	f.requests = nil
	return out
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse writes an error as the daemon does.
func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]string{"message": message})
}
