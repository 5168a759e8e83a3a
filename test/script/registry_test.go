package script

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestPullKilled kills the daemon in the middle of a pull: the next one has
// neither the image nor any part of it.
func TestPullKilled(t *testing.T) {
	begin(t, "redis")
	ctx := t.Context()

	var slow atomic.Bool
	halfway := make(chan struct{}, 16)
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w = &halfWriter{ResponseWriter: w, done: r.Context().Done(), halfway: halfway}
		}
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/redis:1"
	for _, args := range [][]string{{"tag", "redis", name}, {"push", "-q", name}, {"rmi", name}} {
		if _, err := daemon.Porthole(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	// The layers must come from the registry.
	if _, err := daemon.Porthole(ctx, "rmi", "redis"); err != nil {
		t.Fatal(err)
	}
	loaded.Delete("redis")
	had := contentFiles(t)

	slow.Store(true)
	pull := make(chan error, 1)
	go func() {
		_, err := daemon.Porthole(ctx, "pull", "-q", name)
		pull <- err
	}()
	select {
	case <-halfway:
	case err := <-pull:
		t.Fatalf("the pull ended early: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the pull never came halfway")
	}
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-pull; err == nil {
		t.Error("the client was told that all is well")
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := daemon.Porthole(ctx, "images", "-aq", strings.TrimSuffix(name, ":1")); err != nil || out != "" {
		t.Errorf("images: %q, %v", out, err)
	}
	deadline := time.Now().Add(settling)
	for {
		now := contentFiles(t)
		if slices.Equal(had, now) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store has %q, it had %q", now, had)
		}
		time.Sleep(100 * time.Millisecond)
	}
	slow.Store(false)
	if _, err := daemon.Porthole(ctx, "pull", "-q", name); err != nil {
		t.Errorf("the next pull: %v", err)
	}
	if _, err := daemon.Porthole(ctx, "rmi", name); err != nil {
		t.Error(err)
	}
}

// contentFiles lists the blobs, whole and unfinished, and the layers that the
// store has on the disk.
func contentFiles(t *testing.T) []string {
	t.Helper()
	var list []string
	root := filepath.Join(daemon.DataRoot(), "images")
	for _, dir := range []string{"content/blobs/sha256", "content/ingest", "layers/overlay/snapshots"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, dir+"/"+e.Name())
		}
	}
	return list
}

// halfWriter sends a little of an answer and then nothing any more.
type halfWriter struct {
	http.ResponseWriter
	done    <-chan struct{}
	halfway chan<- struct{}
	n       int
}

func (w *halfWriter) Write(p []byte) (int, error) {
	const enough = 256 << 10
	n, err := w.ResponseWriter.Write(p[:min(len(p), enough-w.n)])
	w.n += n
	if err != nil || w.n < enough {
		return n, err
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	select {
	case w.halfway <- struct{}{}:
	default:
	}
	<-w.done
	return 0, http.ErrAbortHandler
}
