package image

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/remote"
)

// partly is a registry that sends half of a layer and then nothing, until it is
// told to go on; then it knows ranges.
type partly struct {
	*testRegistry
	layer   ocispec.Descriptor // that is not sent whole
	halfway chan struct{}

	mu     sync.Mutex
	goOn   bool
	ranges []string // asked of layer since then
	whole  []string // other blobs that were asked for since then
}

// written is how much of the layer gets to the disk.
func (p *partly) written() int64 { return p.layer.Size / 2 >> 20 << 20 }

func newPartly(t *testing.T, l *layout, target ocispec.Descriptor) *partly {
	t.Helper()
	p := &partly{testRegistry: newRegistry(t), layer: layerOf(t, l, target), halfway: make(chan struct{}, 1)}
	p.put(t, "app", l, target)
	p.set(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		p.mu.Lock()
		goOn := p.goOn
		if goOn && req.Method == http.MethodGet && isLayer(req, p.layer) {
			p.ranges = append(p.ranges, req.Header.Get("Range"))
		} else if goOn && req.Method == http.MethodGet {
			p.whole = append(p.whole, req.URL.Path)
		}
		p.mu.Unlock()
		if !isLayer(req, p.layer) {
			return false
		}
		rec := httptest.NewRecorder()
		rng := req.Clone(req.Context())
		rng.Header.Del("Range")
		next.ServeHTTP(rec, rng)
		data := rec.Body.Bytes()
		if goOn {
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
			return true
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush()
		p.halfway <- struct{}{}
		<-req.Context().Done()
		return true
	})
	return p
}

// killedPull returns the directory of a store as it is when the process that pulls
// from p is killed in the middle of the layer.
func killedPull(t *testing.T, p *partly) string {
	t.Helper()
	s := openRemote(t, remote.Options{})
	ended, unpacked := make(chan error, 1), make(chan struct{}, 2)
	go func() {
		_, err := s.Pull(t.Context(), named(t, p.host+"/app:latest"), PullOptions{}, func(m jsonstream.Message) {
			if m.Status == "Pull complete" {
				unpacked <- struct{}{}
			}
		})
		ended <- err
	}()
	<-p.halfway
	// The other layer is there and unpacked: nothing is written to the database any
	// more. And the half has been written, but for what the library has in its buffer
	// of 1 MiB.
	<-unpacked
	deadline := time.After(30 * time.Second)
	for {
		written, _ := filepath.Glob(filepath.Join(s.root, "content/ingest/*/data"))
		if len(written) == 1 {
			if info, err := os.Stat(written[0]); err == nil && info.Size() == p.written() {
				break
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("the pull does not come halfway")
		}
	}
	dir := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(dir, os.DirFS(s.root)); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.goOn = true
	p.mu.Unlock()
	p.CloseClientConnections()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.ranges, p.whole = nil, nil
	p.mu.Unlock()
	return dir
}

// twoLayers is an image with a small layer and one of 5 MB that cannot be packed.
func twoLayers(t *testing.T) testImage {
	t.Helper()
	data := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	two := small(t, "x")
	two.layers = append(two.layers, tarOf(t, file{name: "data", data: string(data), mode: 0o644}))
	return two
}

func TestPullResumed(t *testing.T) {
	l := &layout{t: t}
	target := l.image(twoLayers(t))
	for _, test := range []struct {
		name string
		// spoil does something to the store before it is opened again.
		spoil  func(t *testing.T, dir string)
		ranges func(written int64) []string
	}{
		{"goes on", func(*testing.T, string) {}, func(written int64) []string { return []string{fmt.Sprintf("bytes=%d-", written)} }},
		{
			"not all was on the disk", func(t *testing.T, dir string) {
				files, err := filepath.Glob(filepath.Join(dir, "content/ingest/*/data"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.WriteAt(make([]byte, 4096), 100); err != nil {
					t.Fatal(err)
				}
			},
			func(written int64) []string { return []string{fmt.Sprintf("bytes=%d-", written), ""} },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPartly(t, l, target)
			dir := killedPull(t, p)
			test.spoil(t, dir)
			s := openAt(t, dir, Limits{})
			defer s.Close()
			if s.registries = openRemote(t, remote.Options{}).registries; len(s.broken) != 1 {
				t.Fatalf("broken pulls: %v", s.broken)
			}
			for _, left := range leftovers(t, s) {
				if strings.HasPrefix(left, "snapshot ") {
					t.Errorf("%s was kept, which may not be on the disk", left)
				}
			}
			pulled, err := s.Pull(t.Context(), named(t, p.host+"/app:latest"), PullOptions{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if diff := cmp.Diff(test.ranges(p.written()), p.ranges); diff != "" {
				t.Errorf("ranges of the layer (-want +got)\n%s", diff)
			}
			first := "/v2/app/blobs/" + layersOf(t, l, target)[0].Digest.String()
			for _, path := range p.whole {
				if path == first {
					t.Error("the layer that was whole was fetched again")
				}
			}
			checkWhole(t, s)
			if _, err := s.Remove(t.Context(), pulled.ID, RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, s); len(left) != 0 {
				t.Errorf("without the image there is still %q", left)
			}
		})
	}
}

// What a killed pull has left goes with a prune, and with time.
func TestBrokenPullGoes(t *testing.T) {
	l := &layout{t: t}
	p := newPartly(t, l, l.image(twoLayers(t)))
	dir := killedPull(t, p)
	s := openAt(t, dir, Limits{})
	if left := leftovers(t, s); len(left) == 0 {
		t.Fatal("nothing was kept")
	}
	report, err := s.Prune(t.Context(), PruneOptions{})
	if err != nil || report.SpaceReclaimed == 0 {
		t.Errorf("prune: %+v, %v", report, err)
	}
	if left := leftovers(t, s); len(left) != 0 {
		t.Errorf("after a prune there is still %q", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// leftovers are the blobs, layers, writes and leases that a store has.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	var left []string
	for _, line := range inventory(t, s) {
		if kind, _, _ := strings.Cut(line, " "); slices.Contains([]string{"lease", "blob", "snapshot", "ingest"}, kind) {
			left = append(left, line)
		}
	}
	return left
}
