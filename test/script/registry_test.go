package script

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestPullKilled kills the daemon in the middle of a large layer. There is no image then; the next pull takes the layer up
// where it broke, and fetches nothing again that was whole. A prune removes what was fetched if nobody pulls again.
func TestPullKilled(t *testing.T) {
	begin(t)
	r := &stallingRegistry{next: registry.New(registry.Logger(log.New(io.Discard, "", 0))), halfway: make(chan string, 1)}
	server := httptest.NewServer(r)
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/large:1"
	// Two layers that no other image has, so that they must come from the registry: a test before this one may have
	// loaded whatever shares the base of an image that is there already.
	porthole(t, "run", "--name", "maker", "busybox", "sh", "-c", "head -c 3000000 /dev/urandom >/small")
	below := porthole(t, "commit", "maker")
	porthole(t, "rm", "maker")
	sum := porthole(t, "run", "--name", "maker", below, "sh", "-c", "head -c 40000000 /dev/urandom >/big; sha256sum /big")
	for _, args := range [][]string{{"commit", "maker", name}, {"rm", "maker"}, {"push", "-q", name}, {"rmi", name, below}} {
		porthole(t, args...)
	}
	// Builds before this test have left states, which the prune below removes too.
	porthole(t, "image", "prune", "-f")
	had := restingContent(t)

	large := r.killHalfway(t, name)
	if out := porthole(t, "images", "-aq", strings.TrimSuffix(name, ":1")); out != "" {
		t.Errorf("there are images after half a pull: %q", out)
	}
	r.reset(goesOn)
	porthole(t, "pull", "-q", name)
	asked := r.reset(goesOn)
	if ranges := asked[large]; len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=") || strings.HasPrefix(ranges[0], "bytes=0-") {
		t.Errorf("asked for the large layer's %q, want what was missing of it", ranges)
	}
	for blob := range asked {
		if r.layers[blob] {
			t.Errorf("layer %s was whole and was fetched again", blob)
		}
	}
	if out := porthole(t, "run", "--rm", name, "sha256sum", "/big"); out != sum {
		t.Errorf("the image has %q, want %q", out, sum)
	}
	porthole(t, "rmi", name)
	awaitContent(t, had)

	r.killHalfway(t, name)
	if slices.Equal(had, contentFiles(t)) {
		t.Error("nothing of the pull was kept")
	}
	porthole(t, "image", "prune", "-f")
	awaitContent(t, had)
}

// awaitContent waits until the store has these files, and no others.
func awaitContent(t *testing.T, want []string) {
	t.Helper()
	deadline := time.Now().Add(settling)
	for {
		now := contentFiles(t)
		if slices.Equal(want, now) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store has %q, it had %q", now, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// restingContent waits until nothing of the store goes any more: what a removal
// leaves is cleared away afterwards, and a pull may take it up before.
func restingContent(t *testing.T) []string {
	t.Helper()
	now := contentFiles(t)
	for range settling / (2 * time.Second) {
		time.Sleep(2 * time.Second)
		next := contentFiles(t)
		if slices.Equal(now, next) {
			return now
		}
		now = next
	}
	t.Fatal("the store does not come to rest")
	return nil
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

// largeLayer is from which size a layer is large.
const largeLayer = 8 << 20

// stallingRegistry is a registry whose first answer with a large layer stops in its middle, if it is to.
type stallingRegistry struct {
	next    http.Handler
	halfway chan string // digest of the layer

	mu     sync.Mutex
	mode   registryMode
	asked  map[string][]string // ranges, by digest, since reset
	layers map[string]bool     // that had come whole when the daemon was killed
}

type registryMode int

const (
	goesOn  registryMode = iota
	stalls               // at the next large layer
	stalled              // by a layer
)

// reset forgets what was asked for, and returns it.
func (r *stallingRegistry) reset(mode registryMode) map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.mode, r.asked = mode, map[string][]string{}
	return asked
}

func (r *stallingRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_, blob, isBlob := strings.Cut(req.URL.Path, "/blobs/")
	if !isBlob || req.Method != http.MethodGet {
		r.next.ServeHTTP(w, req)
		return
	}
	// The registry below does not know ranges.
	whole := req.Clone(req.Context())
	whole.Header.Del("Range")
	answer := httptest.NewRecorder()
	r.next.ServeHTTP(answer, whole)
	data := answer.Body.Bytes()
	r.mu.Lock()
	r.asked[blob] = append(r.asked[blob], req.Header.Get("Range"))
	stop := r.mode == stalls && len(data) >= largeLayer
	if stop {
		r.mode = stalled
	}
	r.mu.Unlock()
	if !stop {
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data[:len(data)/2]) // the daemon may be gone
	_ = http.NewResponseController(w).Flush()
	r.halfway <- blob
	<-req.Context().Done()
}

// killHalfway pulls, and kills the daemon when half of a large layer has come and all else is there. It returns the
// layer's digest. The next daemon runs then.
func (r *stallingRegistry) killHalfway(t *testing.T, name string) (large string) {
	t.Helper()
	r.reset(stalls)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), daemon.Program("porthole"), "--host", daemon.Host(), "pull", name)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pull := make(chan error, 1)
	go func() { pull <- cmd.Wait() }()
	select {
	case large = <-r.halfway:
	case err := <-pull:
		t.Fatalf("the pull ended early: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the pull never came halfway")
	}
	for deadline := time.Now().Add(time.Minute); !r.allBut(t, large, out.Name()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other layers do not come")
		}
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
	return large
}

// allBut tells whether a pull, whose output is in a file, has all layers but one, of which a part is on the disk.
func (r *stallingRegistry) allBut(t *testing.T, large, output string) bool {
	t.Helper()
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers = map[string]bool{}
	for blob := range r.asked {
		id := strings.TrimPrefix(blob, "sha256:")[:12]
		if bytes.Contains(text, []byte(id+": Download complete")) { // not before the store's database has it
			r.layers[blob] = true
		}
	}
	wanted := bytes.Count(text, []byte("Pulling fs layer")) - bytes.Count(text, []byte("Already exists"))
	if n := len(r.layers); n == 0 || n != wanted-1 {
		return false
	}
	parts, err := filepath.Glob(filepath.Join(daemon.DataRoot(), "images/content/ingest/*/data"))
	if err != nil || len(parts) != 1 {
		return false
	}
	info, err := os.Stat(parts[0])
	return err == nil && info.Size() >= largeLayer/4
}
