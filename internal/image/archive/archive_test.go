package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/packed"
	"github.com/portholehq/porthole/internal/problem"
)

// memory is a Store in memory.
type memory map[digest.Digest][]byte

func (m memory) Ingest(_ context.Context, desc ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return desc, err
	}
	if got := digest.FromBytes(data); desc.Digest != "" && desc.Digest != got {
		return desc, problem.Errorf(errdefs.ErrInvalidArgument, "digest mismatch: the content is %s", got)
	}
	desc.Digest = digest.FromBytes(data)
	m[desc.Digest] = data
	return desc, nil
}

func (m memory) Document(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if data, ok := m[desc.Digest]; ok {
		return data, nil
	}
	return nil, errdefs.ErrNotFound
}

// entry is a file, or a link if link is set.
type entry struct {
	name, data, link string
	kind             byte
}

func archiveOf(t *testing.T, entries ...entry) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if e.kind != 0 {
			h.Typeflag = e.kind
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func read(t *testing.T, store Store, entries ...entry) ([]Image, error) {
	t.Helper()
	stream, err := packed.Open(archiveOf(t, entries...), packed.Limits{}.WithDefaults(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	a, err := Read(t.Context(), stream, store, 1<<20)
	if err != nil {
		return nil, err
	}
	return a.Images(t.Context())
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocker reads what old versions of docker save wrote: layers may be links to those of other images.
func TestDocker(t *testing.T) {
	store := memory{}
	images, err := read(t, store,
		entry{name: "c.json", data: "{}"}, entry{name: "one/layer.tar", data: "layer"}, entry{name: "two/layer.tar", link: "../one/layer.tar"},
		entry{name: "manifest.json", data: asJSON(t, []DockerEntry{
			{Config: "c.json", RepoTags: []string{"a", "b:1"}, Layers: []string{"one/layer.tar", "two/layer.tar"}}, {Config: "c.json"},
		})},
	)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range images {
		names = append(names, i.Name)
	}
	if diff := cmp.Diff([]string{"docker.io/library/a:latest", "docker.io/library/b:1", ""}, names); diff != "" {
		t.Error(diff)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(store[images[0].Target.Digest], &m); err != nil {
		t.Fatal(err)
	}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 5}
	if diff := cmp.Diff([]ocispec.Descriptor{layer, layer}, m.Layers); diff != "" {
		t.Error(diff)
	}
}

// TestOCI: names come from the index, or for what has none there from manifest.json.
func TestOCI(t *testing.T) {
	config := digest.FromString("{}")
	manifest := asJSON(t, ocispec.Manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config, Size: 2}})
	blob := func(data string) entry {
		return entry{name: "blobs/sha256/" + digest.FromString(data).Encoded(), data: data}
	}
	index := func(ref string) entry {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(manifest), Size: int64(len(manifest))}
		if ref != "" {
			d.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
		}
		return entry{name: "index.json", data: asJSON(t, ocispec.Index{Manifests: []ocispec.Descriptor{d}})}
	}
	docker := entry{name: "manifest.json", data: asJSON(t, []DockerEntry{{Config: "blobs/sha256/" + config.Encoded(), RepoTags: []string{"named:2"}}})}
	for name, c := range map[string]struct {
		entries []entry
		want    string
	}{
		"by the index":      {[]entry{index("reg.test/x:1"), docker}, "reg.test/x:1"},
		"by manifest.json":  {[]entry{index(""), docker}, "docker.io/library/named:2"},
		"nameless":          {[]entry{index("")}, ""},
		"latest is no name": {[]entry{index("latest")}, ""},
	} {
		images, err := read(t, memory{}, append([]entry{blob("{}"), blob(manifest)}, c.entries...)...)
		if err != nil || len(images) != 1 || images[0].Name != c.want || images[0].Target.Digest != digest.FromString(manifest) {
			t.Errorf("%s: %+v, %v; want one called %q", name, images, err, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, entries := range map[string][]entry{
		"points outside of the archive":             {{name: "../x", data: "x"}},
		"\"/etc\" points outside of the archive":    {{name: "l", link: "/etc", kind: tar.TypeLink}},
		"files, directories and links only":         {{name: "d", kind: tar.TypeChar}},
		"comes twice":                               {{name: "x", data: "1"}, {name: "x", data: "2"}},
		"digest mismatch":                           {{name: "blobs/sha256/" + digest.FromString("other").Encoded(), data: "x"}},
		"has neither index.json nor manifest.json":  {{name: "x", data: "x"}},
		"before Docker 1.10":                        {{name: "repositories", data: "{}"}},
		"holds no image":                            {{name: "manifest.json", data: "[]"}},
		"manifest.json: ":                           {{name: "manifest.json", data: "{"}},
		"configuration \"c\" is missing":            {{name: "manifest.json", data: `[{"Config":"c"}]`}},
		"OCI layout version \"9\" is not supported": {{name: "oci-layout", data: `{"imageLayoutVersion":"9"}`}, {name: "index.json", data: "{}"}},
		"has 1048577 bytes, more than 1048576":      {{name: "index.json", data: strings.Repeat(" ", 1<<20+1)}},
	} {
		images, err := read(t, memory{}, entries...)
		if err == nil || !strings.Contains(err.Error(), text) || !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
			t.Errorf("%s: %s", text, fmt.Sprint(images, err))
		}
	}
}
