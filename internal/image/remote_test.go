package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/portholehq/porthole/internal/image/name"
	"github.com/portholehq/porthole/internal/image/remote"
)

// testRegistry is a registry on loopback whose answers a test can spoil.
type testRegistry struct {
	*httptest.Server
	host string
	// spoil handles a request in the registry's place when it returns true.
	spoil atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler) bool]

	mu   sync.Mutex
	seen []string // method and path of each request
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{}
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		if spoil := r.spoil.Load(); spoil != nil && (*spoil)(w, req, next) {
			return
		}
		next.ServeHTTP(w, req)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	return r
}

func (r *testRegistry) set(spoil func(w http.ResponseWriter, req *http.Request, next http.Handler) bool) {
	r.spoil.Store(&spoil)
}

func (r *testRegistry) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.seen {
		if strings.Contains(s, what) {
			n++
		}
	}
	return n
}

// put stores blobs and a manifest as they are.
func (r *testRegistry) put(t *testing.T, name string, l *layout, target ocispec.Descriptor) {
	t.Helper()
	for _, b := range l.blobs {
		data := []byte(b.data)
		d := digest.FromBytes(data)
		if images.IsManifestType(target.MediaType) && d == target.Digest {
			continue
		}
		r.send(t, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", data)
	}
	for _, b := range l.blobs {
		data := []byte(b.data)
		var doc struct {
			MediaType string `json:"mediaType"`
		}
		if json.Unmarshal(data, &doc) != nil || doc.MediaType == "" {
			continue
		}
		object := digest.FromBytes(data).String()
		r.send(t, http.MethodPut, "/v2/"+name+"/manifests/"+object, doc.MediaType, data)
		if object == target.Digest.String() {
			r.send(t, http.MethodPut, "/v2/"+name+"/manifests/latest", doc.MediaType, data)
		}
	}
}

func (r *testRegistry) send(t *testing.T, method, path, mediaType string, data []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, res.Status)
	}
}

// openRemote opens a store that reaches registries, with short pauses.
func openRemote(t *testing.T, o remote.Options) *Store {
	t.Helper()
	registries, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t)
	s.registries = registries
	s.transfers.Pause = 5 * time.Millisecond
	return s
}

func named(t *testing.T, text string) reference.Named {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func tagged(t *testing.T, text string) reference.NamedTagged {
	t.Helper()
	ref, err := name.ParseTag(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func statuses(list *[]string) func(jsonstream.Message) {
	return func(m jsonstream.Message) { *list = append(*list, strings.TrimPrefix(m.ID+": ", ": ")+m.Status) }
}

func TestPushAndPull(t *testing.T) {
	r := newRegistry(t)
	from := openRemote(t, remote.Options{})
	name := r.host + "/team/app:1"
	load(t, from, dockerArchive(t, []string{name}, small(t, "one")))
	id := mustResolve(t, from, name).ID
	var told []string
	pushed, err := from.Push(t.Context(), tagged(t, name), PushOptions{}, statuses(&told))
	if err != nil {
		t.Fatal(err)
	}
	img := mustResolve(t, from, name)
	if img.ID != id || img.Manifest.Digest != pushed.Digest || pushed.Tag != "1" {
		t.Errorf("after the push the name stands for %s with ID %s; pushed %+v, ID was %s", img.Manifest.Digest, img.ID, pushed, id)
	}
	if !slices.ContainsFunc(told, func(s string) bool { return strings.HasSuffix(s, ": Pushed") }) ||
		told[len(told)-1] != fmt.Sprintf("1: digest: %s size: %d", pushed.Digest, pushed.Size) {
		t.Errorf("push tells %q", told)
	}
	again, err := from.Push(t.Context(), tagged(t, name), PushOptions{}, statuses(&told))
	if err != nil || again.Digest != pushed.Digest || !strings.Contains(strings.Join(told, "\n"), "Layer already exists") {
		t.Errorf("second push: %+v, %v, %q", again, err, told)
	}

	to := openRemote(t, remote.Options{})
	told = nil
	pulled, err := to.Pull(t.Context(), named(t, name), PullOptions{}, statuses(&told))
	if err != nil {
		t.Fatal(err)
	}
	want := Pulled{ID: id, Name: name, Digest: pushed.Digest, Changed: true}
	if pulled != want {
		t.Errorf("pulled %+v, want %+v", pulled, want)
	}
	if told[0] != "1: Pulling from team/app" || told[len(told)-1] != "Status: Downloaded newer image for "+name {
		t.Errorf("pull tells %q", told)
	}
	createRootFS(t, to, "c", name)

	told = nil
	if pulled, err = to.Pull(t.Context(), named(t, name), PullOptions{}, statuses(&told)); err != nil || pulled.Changed {
		t.Errorf("second pull: %+v, %v", pulled, err)
	}
	if n := r.count("GET /v2/team/app/blobs/"); n != 2 { // the layer and the configuration, once each
		t.Errorf("%d blobs were fetched, want 2", n)
	}
}

func TestPullByDigest(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(small(t, "one"))
	r.put(t, "app", l, target)
	s := openRemote(t, remote.Options{})
	name := r.host + "/app@" + target.Digest.String()
	pulled, err := s.Pull(t.Context(), named(t, name), PullOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if pulled.Name != name {
		t.Errorf("name %q, want %q", pulled.Name, name)
	}
	list, err := s.List(t.Context(), ListOptions{All: true})
	if err != nil || len(list) != 1 || len(list[0].RepoTags) != 0 || !slices.Equal(list[0].RepoDigests, []string{name}) {
		t.Errorf("listed %+v, %v", list, err)
	}
	mustResolve(t, s, name)
	if _, err := s.Remove(t.Context(), name, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if list, err = s.List(t.Context(), ListOptions{All: true}); err != nil || len(list) != 0 {
		t.Errorf("after removal: %+v, %v", list, err)
	}
}

// twoPlatforms puts an index for this machine and for another one.
func twoPlatforms(t *testing.T, r *testRegistry) (l *layout, index ocispec.Descriptor, other ocispec.Platform) {
	t.Helper()
	l = &layout{t: t}
	other = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	here := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	i := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range []ocispec.Platform{other, here} {
		img := small(t, p.Architecture)
		img.platform, img.packed = p, gzipOf
		d := l.image(img)
		d.Platform = &p
		i.Manifests = append(i.Manifests, d)
	}
	index = l.blob(i.MediaType, jsonOf(t, i))
	r.put(t, "multi", l, index)
	return l, index, other
}

func TestPullPlatform(t *testing.T) {
	r := newRegistry(t)
	_, index, other := twoPlatforms(t, r)
	s := openRemote(t, remote.Options{})
	name := r.host + "/multi:latest"
	if _, err := s.Pull(t.Context(), named(t, name), PullOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	img := mustResolve(t, s, name)
	if img.Platform.Architecture != runtime.GOARCH || img.Target.Digest != index.Digest {
		t.Errorf("pulled %v of %s", img.Platform, img.Target.Digest)
	}
	if n := r.count("GET /v2/multi/blobs/"); n != 2 {
		t.Errorf("%d blobs were fetched for one platform, want 2", n)
	}
	pushed, err := s.Push(t.Context(), tagged(t, name), PushOptions{}, nil)
	if err != nil || !pushed.Single || pushed.Digest != img.Manifest.Digest || pushed.Original.Digest != index.Digest {
		t.Errorf("push of an incomplete index: %+v, %v", pushed, err)
	}

	s = openRemote(t, remote.Options{})
	r.put(t, "multi", &layout{t: t, blobs: []file{}}, index)
	_, _, _ = twoPlatforms(t, r)
	if _, err := s.Pull(t.Context(), named(t, name), PullOptions{Platforms: []ocispec.Platform{other}}, nil); err != nil {
		t.Fatal(err)
	}
	if img = mustResolve(t, s, name); img.Platform.Architecture != other.Architecture {
		t.Errorf("pulled %v, want %v", img.Platform, other)
	}
	_, err = s.Pull(t.Context(), named(t, name), PullOptions{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "mips"}}}, nil)
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no matching manifest for linux/mips in the manifest list entries") {
		t.Errorf("missing platform: %v", err)
	}
}

func TestPullDockerSchema2(t *testing.T) {
	r := newRegistry(t)
	for name, pack := range map[string]func(testing.TB, []byte) []byte{"gzip": gzipOf, "zstd": zstdOf} {
		l := &layout{t: t}
		img := small(t, name)
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: images.MediaTypeDockerSchema2Manifest,
			Config: l.blob(images.MediaTypeDockerSchema2Config, l.configOf(img)),
		}
		mediaType := images.MediaTypeDockerSchema2LayerGzip
		if name == "zstd" {
			mediaType = images.MediaTypeDockerSchema2LayerZstd
		}
		m.Layers = []ocispec.Descriptor{l.blob(mediaType, pack(t, img.layers[0]))}
		r.put(t, name, l, l.manifest(m))
		s := openRemote(t, remote.Options{})
		if _, err := s.Pull(t.Context(), named(t, r.host+"/"+name+":latest"), PullOptions{}, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		createRootFS(t, s, "c", r.host+"/"+name)
	}
}

func TestPullAll(t *testing.T) {
	r := newRegistry(t)
	from := openRemote(t, remote.Options{})
	for _, tag := range []string{"1", "2", "3"} {
		name := r.host + "/app:" + tag
		load(t, from, ociArchive(t, name, small(t, tag)))
		if _, err := from.Push(t.Context(), tagged(t, name), PushOptions{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s := openRemote(t, remote.Options{})
	pulled, err := s.PullAll(t.Context(), named(t, r.host+"/app"), PullOptions{}, nil)
	if err != nil || len(pulled) != 3 {
		t.Errorf("pulled %+v, %v", pulled, err)
	}
	if names, err := s.PushNames(t.Context(), named(t, r.host+"/app")); err != nil || len(names) != 3 {
		t.Errorf("names %v, %v", names, err)
	}
}

// large is an image with a layer that is not small when it is packed.
func large(t *testing.T) testImage {
	t.Helper()
	text := strings.Builder{}
	for i := range 200_000 {
		fmt.Fprintf(&text, "%x", digest.FromString(fmt.Sprint(i)).Encoded()[:8])
	}
	return testImage{layers: [][]byte{tarOf(t, file{name: "data", data: text.String(), mode: 0o644})}}
}

func isLayer(req *http.Request, layer ocispec.Descriptor) bool {
	return req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/blobs/"+layer.Digest.String())
}

// layerOf returns the last layer of the manifest in l.
func layerOf(t *testing.T, l *layout, target ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	layers := layersOf(t, l, target)
	return layers[len(layers)-1]
}

// layersOf returns the layers of the manifest in l.
func layersOf(t *testing.T, l *layout, target ocispec.Descriptor) []ocispec.Descriptor {
	t.Helper()
	for _, b := range l.blobs {
		if digest.FromString(b.data) == target.Digest {
			var m ocispec.Manifest
			if err := json.Unmarshal([]byte(b.data), &m); err != nil {
				t.Fatal(err)
			}
			return m.Layers
		}
	}
	t.Fatal("no manifest")
	return nil
}

// A connection that breaks in the middle of a layer is taken up there.
func TestPullGoesOn(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(large(t))
	r.put(t, "app", l, target)
	layer := layerOf(t, l, target)
	var sent atomic.Int64
	breaks := atomic.Int32{}
	r.set(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		if !isLayer(req, layer) {
			return false
		}
		rng := req.Header.Get("Range")
		req.Header.Del("Range") // the registry of this test does not know them
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, req)
		data := rec.Body.Bytes()
		var at int64
		if rng != "" {
			if _, err := fmt.Sscanf(rng, "bytes=%d-", &at); err != nil {
				t.Errorf("range %q: %v", rng, err)
			}
			data = data[at:]
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, layer.Size-1, layer.Size))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		if at > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		if breaks.Add(1) <= 3 {
			data = data[:len(data)/2]
		}
		n, _ := w.Write(data)
		sent.Add(int64(n))
		return true
	})
	s := openRemote(t, remote.Options{})
	if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), PullOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if n := sent.Load(); n != layer.Size {
		t.Errorf("%d bytes were sent of a layer of %d: it was not taken up where it broke", n, layer.Size)
	}
}

// Whatever a registry does wrong, nothing of it stays.
func TestPullRefuses(t *testing.T) {
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusInternalServerError)
	}))
	defer foreign.Close()
	for _, c := range []struct {
		name  string
		spoil func(w http.ResponseWriter, data []byte)
		class error
		says  string
	}{
		{"another content", func(w http.ResponseWriter, data []byte) {
			data = slices.Clone(data)
			data[len(data)/2] ^= 1
			_, _ = w.Write(data)
		}, errdefs.ErrInvalidArgument, "filesystem layer verification failed"},
		{"too short", func(w http.ResponseWriter, data []byte) { _, _ = w.Write(data[:len(data)/2]) }, nil, "layer 1"},
		{"too long", func(w http.ResponseWriter, data []byte) {
			_, _ = w.Write(append(slices.Clone(data), "more"...))
		}, errdefs.ErrInvalidArgument, "read past expected size"},
		{"breaks off always", func(w http.ResponseWriter, data []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(nil)
			panic(http.ErrAbortHandler)
		}, nil, "EOF"},
		{"server error", func(w http.ResponseWriter, _ []byte) {
			http.Error(w, "out of order", http.StatusInternalServerError)
		}, nil, "500 Internal Server Error"},
		{"too many requests", func(w http.ResponseWriter, _ []byte) {
			w.WriteHeader(http.StatusTooManyRequests)
		}, errdefs.ErrUnavailable, "toomanyrequests"},
		{"forbidden", func(w http.ResponseWriter, _ []byte) {
			w.WriteHeader(http.StatusForbidden)
		}, errdefs.ErrNotFound, "pull access denied for"},
		{"gone", func(w http.ResponseWriter, _ []byte) {
			w.WriteHeader(http.StatusNotFound)
		}, errdefs.ErrNotFound, "manifest for"},
		{"redirect to what fails", func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Location", strings.Replace(foreign.URL, "http://", "http://user:pw@", 1)+"/x?signature=topsecret")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, nil, "500 Internal Server Error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			l := &layout{t: t}
			target := l.image(large(t))
			r.put(t, "app", l, target)
			layer := layerOf(t, l, target)
			s := openRemote(t, remote.Options{})
			before := inventory(t, s)
			r.set(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
				if !isLayer(req, layer) {
					return false
				}
				rec := httptest.NewRecorder()
				req.Header.Del("Range")
				next.ServeHTTP(rec, req)
				c.spoil(w, rec.Body.Bytes())
				return true
			})
			_, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), PullOptions{}, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.class != nil && !errors.Is(err, c.class) {
				t.Errorf("error %v (%T), want class %v and %q", err, err, c.class, c.says)
			}
			if err != nil && (strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "user:pw")) {
				t.Errorf("the error shows a secret: %v", err)
			}
			if after := inventory(t, s); !slices.Equal(before, after) {
				t.Errorf("left behind: %q, before %q", after, before)
			}
			// The same pull goes through once the registry is well again.
			r.spoil.Store(nil)
			if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), PullOptions{}, nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestPullTriesAgain(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(large(t))
	r.put(t, "app", l, target)
	layer := layerOf(t, l, target)
	s := openRemote(t, remote.Options{})
	s.transfers.Stall = 200 * time.Millisecond
	var tries atomic.Int32
	r.set(func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if !isLayer(req, layer) {
			return false
		}
		switch tries.Add(1) {
		case 1: // says nothing any more
			w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
			_, _ = w.Write([]byte("x"[:0]))
			w.(http.Flusher).Flush()
			<-req.Context().Done()
			return true
		case 2, 3:
			w.WriteHeader(http.StatusBadGateway)
			return true
		default:
			return false
		}
	})
	var told []string
	if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), PullOptions{}, statuses(&told)); err != nil {
		t.Fatal(err)
	}
	if n := tries.Load(); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
	if !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "Retrying in ") }) {
		t.Errorf("tells %q", told)
	}
}

func TestPullCanceled(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(large(t))
	r.put(t, "app", l, target)
	layer := layerOf(t, l, target)
	s := openRemote(t, remote.Options{})
	before := inventory(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	r.set(func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if !isLayer(req, layer) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
		_, _ = w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		cancel()
		<-req.Context().Done()
		return true
	})
	if _, err := s.Pull(ctx, named(t, r.host+"/app:latest"), PullOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if after := inventory(t, s); !slices.Equal(before, after) {
		t.Errorf("left behind: %q, before %q", after, before)
	}
}

func TestPullsShareDownloads(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(large(t))
	r.put(t, "app", l, target)
	s := openRemote(t, remote.Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), PullOptions{}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.count("GET /v2/app/blobs/"); n != 2 {
		t.Errorf("%d blobs were fetched by 8 pulls, want 2", n)
	}
}

// A client that is stopped, and so reads no progress, holds up its own pull alone.
func TestPullOfStoppedClient(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	r.put(t, "app", l, l.image(large(t)))
	s := openRemote(t, remote.Options{})
	s.downloads = semaphore.NewWeighted(1)
	name := named(t, r.host+"/app:latest")
	stopped, goOn := make(chan struct{}), make(chan struct{})
	var seen []string
	once := false
	first := make(chan error, 1)
	go func() {
		_, err := s.Pull(t.Context(), name, PullOptions{}, func(m jsonstream.Message) {
			if m.Status == "Downloading" && !once {
				once = true
				close(stopped)
				<-goOn
			}
			statuses(&seen)(m)
		})
		first <- err
	}()
	<-stopped
	// It is of the same layer, and there is place for one download.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.Pull(ctx, name, PullOptions{}, nil); err != nil {
		t.Errorf("beside a stopped client: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(seen[0], "latest: Pulling from") || !strings.HasPrefix(seen[len(seen)-1], "Status: ") {
		t.Errorf("the client saw %q", seen)
	}
}

// What is here already needs no room on the disk.
func TestPullAgainOnFullDisk(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	r.put(t, "app", l, l.image(small(t, "one")))
	s := openRemote(t, remote.Options{})
	name := named(t, r.host+"/app:latest")
	if _, err := s.Pull(t.Context(), name, PullOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	s.limits.KeepFree = 1 << 60
	if p, err := s.Pull(t.Context(), name, PullOptions{}, nil); err != nil || p.Changed {
		t.Errorf("again: %+v, %v", p, err)
	}
	r.put(t, "other", l, l.image(small(t, "two")))
	if _, err := s.Pull(t.Context(), named(t, r.host+"/other:latest"), PullOptions{}, nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("another image: %v", err)
	}
}

// bearerRegistry wants a token that its token server gives to tester.
func bearerRegistry(t *testing.T, r *testRegistry, identity string) *httptest.Server {
	t.Helper()
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		if req.Method == http.MethodPost {
			user, password = req.PostFormValue("username"), req.PostFormValue("password")
			if identity != "" && req.PostFormValue("refresh_token") == identity {
				user, password = "tester", "secret"
			}
		}
		if user != "tester" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": "good", "access_token": "good", "refresh_token": identity, "expires_in": 300})
	}))
	t.Cleanup(tokens.Close)
	r.set(func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if req.Header.Get("Authorization") == "Bearer good" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:app:pull"`, tokens.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	return tokens
}

func TestTokens(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	r.put(t, "app", l, l.image(small(t, "one")))
	bearerRegistry(t, r, "identity")
	s := openRemote(t, remote.Options{})
	name := named(t, r.host+"/app:latest")
	good := remote.Credentials{Username: "tester", Password: "secret"}
	for _, c := range []struct {
		what  string
		creds remote.Credentials
		ok    bool
	}{
		{"nobody", remote.Credentials{}, false},
		{"wrong password", remote.Credentials{Username: "tester", Password: "wrong"}, false},
		{"password", good, true},
		{"identity token", remote.Credentials{IdentityToken: "identity"}, true},
		{"registry token", remote.Credentials{RegistryToken: "good"}, true},
		{"wrong registry token", remote.Credentials{RegistryToken: "bad"}, false},
	} {
		_, err := s.Pull(t.Context(), name, PullOptions{Credentials: c.creds}, nil)
		switch {
		case c.ok && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case !c.ok && (!errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull access denied")):
			t.Errorf("%s: %v", c.what, err)
		case err != nil && (strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: the error shows a secret: %v", c.what, err)
		}
	}
	identity, err := s.registries.Login(t.Context(), r.host, good)
	if err != nil || identity != "identity" {
		t.Errorf("login: %q, %v", identity, err)
	}
	_, err = s.registries.Login(t.Context(), r.host, remote.Credentials{Username: "tester", Password: "wrong"})
	if !errdefs.IsUnauthorized(err) {
		t.Errorf("login with a wrong password: %v", err)
	}
}

// Storage that a registry redirects to sees no credentials, also on another
// port of the same host.
func TestRedirectKeepsCredentials(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	target := l.image(small(t, "one"))
	r.put(t, "app", l, target)
	layer := layerOf(t, l, target)
	blob := ""
	for _, b := range l.blobs {
		if digest.FromString(b.data) == layer.Digest {
			blob = b.data
		}
	}
	var leaked atomic.Pointer[string]
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if a := req.Header.Get("Authorization"); a != "" {
			leaked.Store(&a)
		}
		if req.URL.Path == "/asks" {
			w.Header().Set("WWW-Authenticate", `Basic realm="storage"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, blob)
	}))
	defer storage.Close()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("tester:secret"))
	path := "/plain"
	r.set(func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if req.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if isLayer(req, layer) {
			http.Redirect(w, req, storage.URL+path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	s := openRemote(t, remote.Options{})
	o := PullOptions{Credentials: remote.Credentials{Username: "tester", Password: "secret"}}
	if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), o, nil); err != nil {
		t.Error(err)
	}
	path = "/asks"
	s = openRemote(t, remote.Options{})
	if _, err := s.Pull(t.Context(), named(t, r.host+"/app:latest"), o, nil); err == nil {
		t.Error("the layer came from storage that wanted credentials")
	}
	if a := leaked.Load(); a != nil {
		t.Errorf("storage saw %q", *a)
	}
}

func TestMirror(t *testing.T) {
	r := newRegistry(t)
	l := &layout{t: t}
	r.put(t, "library/app", l, l.image(small(t, "one")))
	s := openRemote(t, remote.Options{Mirrors: []string{r.URL}})
	pulled, err := s.Pull(t.Context(), named(t, "app:latest"), PullOptions{}, nil)
	if err != nil || pulled.Name != "app:latest" {
		t.Errorf("pulled %+v, %v", pulled, err)
	}
}

func TestDistribution(t *testing.T) {
	r := newRegistry(t)
	_, index, other := twoPlatforms(t, r)
	s := openRemote(t, remote.Options{})
	d, err := s.Distribution(t.Context(), named(t, r.host+"/multi:latest"), remote.Credentials{})
	if err != nil || d.Descriptor.Digest != index.Digest || len(d.Platforms) != 2 || d.Platforms[0].Architecture != other.Architecture {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := s.Distribution(t.Context(), named(t, r.host+"/none:latest"), remote.Credentials{}); !errdefs.IsNotFound(err) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestPushRefuses(t *testing.T) {
	r := newRegistry(t)
	s := openRemote(t, remote.Options{})
	name := r.host + "/app:1"
	if _, err := s.Push(t.Context(), tagged(t, name), PushOptions{}, nil); !errdefs.IsNotFound(err) ||
		!strings.Contains(err.Error(), "An image does not exist locally with the tag: "+r.host+"/app") {
		t.Errorf("push of nothing: %v", err)
	}
	load(t, s, ociArchive(t, name, small(t, "one")))
	r.set(func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if req.Method == http.MethodGet || req.Method == http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if _, err := s.Push(t.Context(), tagged(t, name), PushOptions{}, nil); !errdefs.IsPermissionDenied(err) ||
		!strings.Contains(err.Error(), "push access denied for") {
		t.Errorf("push without the right: %v", err)
	}
}
