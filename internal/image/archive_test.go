package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/archive"
)

// file is one entry of a tar made by a test.
type file struct {
	name   string
	kind   byte // 0: by the name: a directory ends in /
	data   string
	mode   int64
	link   string
	uid    int
	major  int64
	minor  int64
	xattrs map[string]string
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		hdr := &tar.Header{
			Typeflag: f.kind, Name: f.name, Mode: f.mode, Linkname: f.link, Size: int64(len(f.data)),
			Uid: f.uid, Devmajor: f.major, Devminor: f.minor, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX,
		}
		if f.kind == 0 {
			hdr.Typeflag = tar.TypeReg
			if f.name[len(f.name)-1] == '/' {
				hdr.Typeflag = tar.TypeDir
			}
		}
		if f.mode == 0 {
			hdr.Mode = 0o755
		}
		for k, v := range f.xattrs {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstdOf(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// layout collects the blobs of an archive.
type layout struct {
	t     testing.TB
	blobs []file
	index []ocispec.Descriptor
	extra []file
}

func (l *layout) blob(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	l.blobs = append(l.blobs, file{name: "blobs/sha256/" + d.Digest.Encoded(), data: string(data)})
	return d
}

// testImage is an image that a test puts into an archive.
type testImage struct {
	layers   [][]byte // plain tars
	packed   func(testing.TB, []byte) []byte
	platform ocispec.Platform
	created  time.Time
	config   ocispec.ImageConfig
	history  []ocispec.History
	diffIDs  []digest.Digest // instead of the right ones
}

func (l *layout) configOf(i testImage) []byte {
	config := ocispec.Image{Platform: i.platform, Config: i.config, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}, History: i.history}
	if config.OS == "" {
		config.Platform = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if !i.created.IsZero() {
		config.Created = &i.created
	}
	for _, data := range i.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(data))
	}
	if i.diffIDs != nil {
		config.RootFS.DiffIDs = i.diffIDs
	}
	return jsonOf(l.t, config)
}

// image adds an image and returns the descriptor of its manifest.
func (l *layout) image(i testImage) ocispec.Descriptor {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    l.blob(ocispec.MediaTypeImageConfig, l.configOf(i)),
		Layers:    []ocispec.Descriptor{},
	}
	for _, data := range i.layers {
		mediaType := ocispec.MediaTypeImageLayer
		if i.packed != nil {
			data = i.packed(l.t, data)
			mediaType = ocispec.MediaTypeImageLayerGzip
		}
		m.Layers = append(m.Layers, l.blob(mediaType, data))
	}
	return l.manifest(m)
}

func (l *layout) manifest(m ocispec.Manifest) ocispec.Descriptor {
	return l.blob(m.MediaType, jsonOf(l.t, m))
}

// name puts a target into index.json.
func (l *layout) name(name string, target ocispec.Descriptor) {
	if name != "" {
		target.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	l.index = append(l.index, target)
}

func (l *layout) archive() []byte {
	files := append([]file{}, l.blobs...)
	files = append(files,
		file{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`},
		file{name: "index.json", data: string(jsonOf(l.t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: l.index}))},
	)
	return tarOf(l.t, unique(append(files, l.extra...))...)
}

// unique drops blobs that come again.
func unique(files []file) []file {
	seen := map[string]bool{}
	var list []file
	for _, f := range files {
		if !seen[f.name] {
			seen[f.name] = true
			list = append(list, f)
		}
	}
	return list
}

// ociArchive is an archive of one image.
func ociArchive(t testing.TB, name string, i testImage) []byte {
	t.Helper()
	l := &layout{t: t}
	l.name(name, l.image(i))
	return l.archive()
}

// dockerArchive is an archive of one image as `docker save` wrote it before
// version 25: a directory for each layer, the second a link when it is equal.
func dockerArchive(t testing.TB, tags []string, i testImage) []byte {
	t.Helper()
	l := &layout{t: t}
	config := l.configOf(i)
	name := digest.FromBytes(config).Encoded() + ".json"
	files := []file{{name: name, data: string(config)}}
	var layers []string
	first := map[digest.Digest]string{}
	for n, data := range i.layers {
		dir := digest.FromString(string(rune('a' + n))).Encoded()
		path := dir + "/layer.tar"
		files = append(files, file{name: dir + "/"}, file{name: dir + "/VERSION", data: "1.0"}, file{name: dir + "/json", data: "{}"})
		d := digest.FromBytes(data)
		if at, ok := first[d]; ok {
			files = append(files, file{name: path, kind: tar.TypeSymlink, link: "../" + at})
		} else {
			first[d] = path
			files = append(files, file{name: path, data: string(data)})
		}
		layers = append(layers, path)
	}
	manifest := []archive.DockerEntry{{Config: name, RepoTags: tags, Layers: layers}}
	files = append(files,
		file{name: "manifest.json", data: string(jsonOf(t, manifest))},
		file{name: "repositories", data: "{}"})
	return tarOf(t, files...)
}

// small is an image with one little layer; different texts give different
// images.
func small(t testing.TB, text string) testImage {
	t.Helper()
	return testImage{
		layers:  [][]byte{tarOf(t, file{name: "etc/"}, file{name: "etc/text", data: text, mode: 0o644})},
		created: time.Unix(1_700_000_000, 0).UTC(),
		config:  ocispec.ImageConfig{Cmd: []string{"/bin/" + text}, Labels: map[string]string{"text": text}},
	}
}
