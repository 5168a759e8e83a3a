package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/packed"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestLoadFormats(t *testing.T) {
	one := small(t, "one")
	twoLayers := one
	twoLayers.layers = append(slices.Clone(one.layers), tarOf(t, file{name: "b", data: "b"}), one.layers[0])
	packed := one
	packed.packed = gzipOf
	packedZstd := one
	packedZstd.packed = zstdOf

	nested := &layout{t: t}
	arm := small(t, "arm")
	arm.platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	armDesc, hereDesc := nested.image(arm), nested.image(one)
	armDesc.Platform = &arm.platform
	attestation := nested.blob(ocispec.MediaTypeImageManifest, []byte(`{"config":{},"layers":[]}`))
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	index := nested.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{armDesc, hereDesc, attestation},
	}))
	nested.name("multi:1", index)

	partial := &layout{t: t}
	missing := armDesc
	hereDesc = partial.image(one)
	partial.name("partial:1", partial.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{missing, hereDesc}})))

	inner := &layout{t: t}
	named := inner.image(one)
	named.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/inner:2"}
	inner.name("", inner.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{named}})))

	several := &layout{t: t}
	several.name("a:1", several.image(one))
	several.name("a:2", several.image(one))
	several.name("b", several.image(small(t, "two")))

	tests := []struct {
		name    string
		archive []byte
		want    []string
	}{
		{"oci", ociArchive(t, "busybox:latest", one), []string{"Loaded image: busybox:latest"}},
		{"oci without tag", ociArchive(t, "busybox", one), []string{"Loaded image: busybox:latest"}},
		{"oci with registry", ociArchive(t, "registry.test:5000/a/b:1", one), []string{"Loaded image: registry.test:5000/a/b:1"}},
		{"oci without name", ociArchive(t, "", one), []string{"Loaded image ID: " + configID(t, one)}},
		{"oci that is only tagged", ociArchive(t, "latest", one), []string{"Loaded image ID: " + configID(t, one)}},
		{"gzip layers", ociArchive(t, "a", packed), []string{"Loaded image: a:latest"}},
		{"zstd layers", ociArchive(t, "a", packedZstd), []string{"Loaded image: a:latest"}},
		{"gzip archive", gzipOf(t, ociArchive(t, "a", one)), []string{"Loaded image: a:latest"}},
		{"zstd archive", zstdOf(t, ociArchive(t, "a", one)), []string{"Loaded image: a:latest"}},
		{"nested index", nested.archive(), []string{"Loaded image: multi:1"}},
		{"index with missing platforms", partial.archive(), []string{"Loaded image: partial:1"}},
		{"names in a nested index", inner.archive(), []string{"Loaded image: inner:2"}},
		{"several images", several.archive(), []string{"Loaded image: a:1", "Loaded image: a:2", "Loaded image: b:latest"}},
		{"docker", dockerArchive(t, []string{"x:1", "y/z:latest"}, one), []string{"Loaded image: x:1", "Loaded image: y/z:latest"}},
		{"docker with linked layer", dockerArchive(t, []string{"x:1"}, twoLayers), []string{"Loaded image: x:1"}},
		{"docker without tag", dockerArchive(t, nil, one), []string{"Loaded image ID: " + configID(t, one)}},
		{"no layers", ociArchive(t, "empty", testImage{}), []string{"Loaded image: empty:latest"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			var got []string
			loaded, err := s.Load(t.Context(), bytes.NewReader(tt.archive), LoadOptions{}, messages(&got))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("messages (-want +got)\n%s", diff)
			}
			for i, l := range loaded {
				ref := l.Name
				if ref == "" {
					ref = l.ID
				}
				img, err := s.Resolve(t.Context(), ref)
				if err != nil || img.ID != l.ID {
					t.Fatalf("resolve %q: %v, %v", ref, img.ID, err)
				}
				layers, err := s.CreateRootFS(t.Context(), fmt.Sprintf("c%d", i), img)
				if err != nil {
					t.Fatal(err)
				}
				if len(img.Config.RootFS.DiffIDs) > 0 {
					if _, err := os.Stat(filepath.Join(layers.Lower[len(layers.Lower)-1], "etc/text")); err != nil {
						t.Error(err)
					}
				}
			}
			if leases, err := s.leases.List(s.in(t.Context())); err != nil || len(leases) > 0 {
				t.Errorf("leases are left: %v, %v", leases, err)
			}
		})
	}
}

// configID is the ID that an image must get.
func configID(t *testing.T, i testImage) string {
	t.Helper()
	return digest.FromBytes((&layout{t: t}).configOf(i)).String()
}

// A name is found in all the ways that people write it.
func TestResolve(t *testing.T) {
	s := open(t)
	one, two := small(t, "one"), small(t, "two")
	load(t, s, ociArchive(t, "busybox:latest", one))
	load(t, s, ociArchive(t, "reg.test/team/app:1.2", two))
	manifest := mustResolve(t, s, "busybox").Target.Digest.String()
	id := configID(t, one)
	hex := strings.TrimPrefix(id, "sha256:")
	tests := []struct {
		ref   string
		id    string
		error string
		class error
	}{
		{ref: "busybox", id: id},
		{ref: "busybox:latest", id: id},
		{ref: "library/busybox", id: id},
		{ref: "docker.io/library/busybox:latest", id: id},
		{ref: "busybox@" + manifest, id: id},
		{ref: "busybox:whatever@" + manifest, id: id},
		{ref: id, id: id},
		{ref: hex, id: id},
		{ref: hex[:12], id: id},
		{ref: "sha256:" + hex[:6], id: id},
		{ref: manifest, id: id},
		{ref: "reg.test/team/app:1.2", id: configID(t, two)},
		{ref: "busybox:1", error: "No such image: busybox:1", class: errdefs.ErrNotFound},
		{ref: "nothing", error: "No such image: nothing:latest", class: errdefs.ErrNotFound},
		{ref: "reg.test/team/app", error: "No such image: reg.test/team/app:latest", class: errdefs.ErrNotFound},
		{ref: "app@" + manifest, error: "No such image: app@" + manifest, class: errdefs.ErrNotFound},
		{ref: "Upper", error: "invalid reference format: repository name (library/Upper) must be lowercase", class: errdefs.ErrInvalidArgument},
		{ref: "", error: "invalid reference format", class: errdefs.ErrInvalidArgument},
		{ref: "a b", error: "invalid reference format", class: errdefs.ErrInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.ref, func(t *testing.T) {
			img, err := s.Resolve(t.Context(), tt.ref)
			if tt.error != "" {
				if err == nil || err.Error() != tt.error || !isClass(err, tt.class) {
					t.Errorf("error %q, want %q", err, tt.error)
				}
				return
			}
			if err != nil || img.ID != tt.id {
				t.Errorf("got %s, %v; want %s", img.ID, err, tt.id)
			}
		})
	}
}

func isClass(err, class error) bool {
	for _, is := range []func(error) bool{errdefs.IsNotFound, errdefs.IsInvalidArgument, errdefs.IsConflict, errdefs.IsResourceExhausted, errdefs.IsAlreadyExists, errdefs.IsFailedPrecondition} {
		if is(class) {
			return is(err)
		}
	}
	return false
}

func mustResolve(t testing.TB, s *Store, ref string) Image {
	t.Helper()
	img, err := s.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestAmbiguousID(t *testing.T) {
	s := open(t)
	ids := map[byte]int{}
	for i := range 17 { // two of 17 begin with the same digit
		loaded := load(t, s, ociArchive(t, fmt.Sprintf("i:%d", i), small(t, fmt.Sprint(i))))
		ids[loaded[0].ID[len("sha256:")]]++
	}
	for digit, n := range ids {
		_, err := s.Resolve(t.Context(), string(digit))
		if n == 1 && err != nil || n > 1 && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%d images begin with %c: %v", n, digit, err)
		}
	}
}

// Hostile and broken archives: an error that says what is wrong, and the store
// as it was.
func TestLoadRefuses(t *testing.T) {
	good := small(t, "good")
	layerWith := func(files ...file) []byte {
		return ociArchive(t, "bad", testImage{layers: [][]byte{tarOf(t, files...)}})
	}
	edit := func(fn func(l *layout)) []byte {
		l := &layout{t: t}
		l.name("bad", l.image(good))
		fn(l)
		return l.archive()
	}
	zeros := string(make([]byte, 3<<20))
	bomb := ociArchive(t, "bad", testImage{packed: gzipOf, layers: [][]byte{tarOf(t, file{name: "zeros", data: zeros})}})
	var many []file
	for i := range 300 {
		many = append(many, file{name: fmt.Sprintf("d%d", i), kind: tar.TypeChar, major: 1, minor: 3})
	}
	whole := ociArchive(t, "bad", good)
	deep := edit(func(l *layout) {
		d := l.image(small(t, "deep"))
		for range maxIndexDepth + 2 {
			d = l.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{d}}))
		}
		l.index = nil
		l.name("deep", d)
	})
	fan := edit(func(l *layout) {
		d := l.image(small(t, "fan"))
		for range 5 { // 10 to the power of 5 ways to one manifest
			list := make([]ocispec.Descriptor, 10)
			for i := range list {
				list[i] = d
			}
			d = l.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: list}))
		}
		l.index = nil
		l.name("fan", d)
	})
	foreign := edit(func(l *layout) {
		a, b := small(t, "a"), small(t, "b")
		a.platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		b.platform = ocispec.Platform{OS: "linux", Architecture: "mips64le"}
		d := l.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{l.image(a), l.image(b)}}))
		l.index = nil
		l.name("foreign", d)
	})
	otherLayer := small(t, "other").layers[0]
	tests := []struct {
		name    string
		archive []byte
		error   string
	}{
		{"nothing", nil, "unrecognized image format"},
		{"garbage", []byte(strings.Repeat("garbage ", 200)), "no tar file"},
		{"short garbage", []byte("garbage"), "truncated"},
		{"empty tar", tarOf(t), "unrecognized image format"},
		{"truncated in a blob", whole[:1300], "truncated"},
		{"truncated before the index", whole[:len(whole)-5*512-1024], ""},
		{"truncated gzip", gzipOf(t, whole)[:400], "truncated"},
		{"gzip with garbage in it", append(gzipOf(t, whole)[:30], strings.Repeat("x", 4000)...), "packed data is damaged"},
		{"xz", append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, make([]byte, 100)...), "xz compression is not supported"},
		{"blob with another digest", edit(func(l *layout) { l.blobs[0].data += " " }), "digest mismatch"},
		{"docker config with another digest", tarOf(t,
			file{name: strings.Repeat("a", 64) + ".json", data: "{}"},
			file{name: "manifest.json", data: `[{"Config":"` + strings.Repeat("a", 64) + `.json","Layers":[]}]`}), "digest mismatch"},
		{"layer is not the one of the configuration", ociArchive(t, "bad", testImage{layers: good.layers, diffIDs: []digest.Digest{digest.FromBytes(otherLayer)}}), "the image configuration wants"},
		{"more layers than the configuration has", ociArchive(t, "bad", testImage{layers: good.layers, diffIDs: []digest.Digest{}}), "has 1 layers, its configuration 0"},
		{"missing layer", edit(func(l *layout) { l.blobs = append(l.blobs[:1], l.blobs[2:]...) }), "is missing from the archive"},
		{"missing manifest", edit(func(l *layout) { l.blobs = l.blobs[:2] }), "is missing from the archive"},
		{"missing configuration", edit(func(l *layout) { l.blobs = l.blobs[1:] }), "not found"},
		{"size that is not the blob's", edit(func(l *layout) { l.index[0].Size++ }), "its descriptor says"},
		{"layer that is no tar", ociArchive(t, "bad", testImage{layers: [][]byte{[]byte(strings.Repeat("garbage ", 200))}}), "no tar file"},
		{"truncated layer", ociArchive(t, "bad", testImage{layers: [][]byte{good.layers[0][:1026]}}), "truncated"},
		{"index is no JSON", edit(func(l *layout) { l.extra = nil; l.index = nil; l.blobs = nil }), "holds no image"},
		{"manifest.json is no JSON", tarOf(t, file{name: "manifest.json", data: "{"}), "manifest.json"},
		{"layout of another version", tarOf(t, file{name: "oci-layout", data: `{"imageLayoutVersion":"9"}`}, file{name: "index.json", data: "{}"}), `version "9"`},
		{"archive of the first Docker", tarOf(t, file{name: "repositories", data: "{}"}), "before Docker 1.10"},
		{"huge JSON", edit(func(l *layout) { l.extra = []file{{name: "manifest.json", data: strings.Repeat(" ", 100<<10)}} }), "more than 65536"},
		{"huge configuration", edit(func(l *layout) {
			i := good
			i.config.Env = []string{strings.Repeat("x", 100<<10)}
			l.index = nil
			l.name("bad", l.image(i))
		}), "more than 65536"},
		{"manifest that is an index too", edit(func(l *layout) {
			l.index = nil
			l.name("bad", l.blob(ocispec.MediaTypeImageManifest, []byte(`{"manifests":[],"layers":[],"config":{}}`)))
		}), "neither a manifest nor an index"},
		{"artifact", edit(func(l *layout) {
			l.index = nil
			l.name("bad", l.manifest(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: l.blob("application/vnd.test", []byte("{}")), Layers: []ocispec.Descriptor{}}))
		}), "no container image"},
		{"digest of an index that is none", edit(func(l *layout) { l.index[0].Digest = "sha256:../../../etc/passwd" }), "digest"},
		{"deeply nested index", deep, "nested too deep or too large"},
		{"index with endless ways", fan, "nested too deep or too large"},
		{"only other platforms", foreign, "no image for platform"},
		{"bad name", ociArchive(t, "UPPER:1", good), "UPPER"},
		{"entry above the archive", edit(func(l *layout) { l.extra = []file{{name: "../escape", data: "x"}} }), "outside of the archive"},
		{"absolute entry", edit(func(l *layout) { l.extra = []file{{name: "/escape", data: "x"}} }), "outside of the archive"},
		{"link out of the archive", edit(func(l *layout) { l.extra = []file{{name: "a", kind: tar.TypeSymlink, link: "../../etc/passwd"}} }), "outside of the archive"},
		{"layer is a link out of the archive", tarOf(t,
			file{name: "l/layer.tar", kind: tar.TypeSymlink, link: "/etc/passwd"},
			file{name: "c.json", data: `{"rootfs":{"diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`},
			file{name: "manifest.json", data: `[{"Config":"c.json","Layers":["l/layer.tar"]}]`}), "missing from the archive"},
		{"links in a circle", tarOf(t,
			file{name: "a", kind: tar.TypeSymlink, link: "b"}, file{name: "b", kind: tar.TypeSymlink, link: "a"},
			file{name: "manifest.json", data: `[{"Config":"a","Layers":[]}]`}), "missing from the archive"},
		{"device in the archive", edit(func(l *layout) { l.extra = []file{{name: "sda", kind: tar.TypeBlock, major: 8}} }), "files, directories and links only"},
		{"file twice", tarOf(t, file{name: "x", data: "1"}, file{name: "x", data: "2"}), "comes twice"},
		{"layer entry above the root", layerWith(file{name: "../../escape", data: "x"}), "outside of the layer"},
		{"hard link above the root", layerWith(file{name: "shadow", kind: tar.TypeLink, link: "../../../../etc/shadow"}), "outside of the layer"},
		{"hard link to nothing", layerWith(file{name: "shadow", kind: tar.TypeLink, link: "/etc/shadow"}), "shadow"},
		{"hard link through a link out", layerWith(
			file{name: "dir", kind: tar.TypeSymlink, link: "/etc"},
			file{name: "shadow", kind: tar.TypeLink, link: "dir/shadow"}), "shadow"},
		{"unpacked size", bomb, "unpacks to more than"},
		{"archive that unpacks to too much", gzipOf(t, layerWith(file{name: "zeros", data: zeros})), "unpack"},
		{"too many entries", layerWith(many...), "more than 200 entries"},
	}
	s := openAt(t, t.TempDir(), Limits{JSON: 64 << 10, Entries: 200, Unpacked: 2 << 20})
	defer s.Close()
	load(t, s, ociArchive(t, "keep:1", small(t, "keep")))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := inventory(t, s)
			loaded, err := s.Load(t.Context(), bytes.NewReader(tt.archive), LoadOptions{}, nil)
			if err == nil {
				t.Fatalf("no error, loaded %v", loaded)
			}
			if !strings.Contains(err.Error(), tt.error) {
				t.Errorf("error %q, want %q in it", err, tt.error)
			}
			if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) && !strings.Contains(tt.name, "hard link") {
				t.Errorf("error %q has no class", err)
			}
			if strings.HasSuffix(err.Error(), "invalid argument") {
				t.Errorf("error %q names its class", err)
			}
			if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
				t.Errorf("something is left behind (-before +after)\n%s", diff)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(s.root), "escape")); err == nil {
		t.Error("a file was written outside of the store")
	}
}

// A small packed layer may become large, but only in proportion.
func TestCompressionRatio(t *testing.T) {
	layer := tarOf(t, file{name: "zeros", data: string(make([]byte, 4<<20))})
	archive := ociArchive(t, "bomb", testImage{packed: gzipOf, layers: [][]byte{layer}})
	for _, tt := range []struct {
		name   string
		limits Limits
		error  string
	}{
		{"within", Limits{Ratio: 2000, RatioFrom: 1 << 20}, ""},
		{"beyond", Limits{Ratio: 100, RatioFrom: 1 << 20}, "100 times as much"},
		{"beyond, but small", Limits{Ratio: 100, RatioFrom: 1 << 30}, ""},
		{"no room", Limits{KeepFree: 1 << 60}, "no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openAt(t, t.TempDir(), tt.limits)
			defer s.Close()
			big := archive
			if tt.name == "no room" { // asked for files of some size only
				big = ociArchive(t, "big", testImage{packed: gzipOf, layers: [][]byte{tarOf(t, file{name: "z", data: string(make([]byte, packed.CheckEvery))})}})
			}
			_, err := s.Load(t.Context(), bytes.NewReader(big), LoadOptions{}, nil)
			if tt.error == "" && err != nil || tt.error != "" && (err == nil || !strings.Contains(err.Error(), tt.error)) {
				t.Errorf("got %v, want %q", err, tt.error)
			}
		})
	}
}

// zstd can describe any amount of zeros in a few bytes.
func TestZstdBomb(t *testing.T) {
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(w)
	const size = 512 << 20
	if err := tw.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: size}); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		if _, err := tw.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, t.TempDir(), Limits{RatioFrom: 16 << 20})
	defer s.Close()
	before := inventory(t, s)
	_, err = s.Load(t.Context(), &buf, LoadOptions{}, nil)
	if err == nil || !strings.Contains(err.Error(), "times as much") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
		t.Errorf("something is left behind (-before +after)\n%s", diff)
	}
}

// All images of an archive come in or none.
func TestLoadIsWhole(t *testing.T) {
	s := open(t)
	l := &layout{t: t}
	l.name("good", l.image(small(t, "good")))
	bad := small(t, "bad")
	bad.diffIDs = []digest.Digest{digest.FromString("another")}
	l.name("bad", l.image(bad))
	before := inventory(t, s)
	if _, err := s.Load(t.Context(), bytes.NewReader(l.archive()), LoadOptions{}, nil); err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

func TestLoadTakesNameFromOldImage(t *testing.T) {
	s := open(t)
	old := load(t, s, ociArchive(t, "app", small(t, "old")))[0].ID
	var got []string
	if _, err := s.Load(t.Context(), bytes.NewReader(ociArchive(t, "app", small(t, "new"))), LoadOptions{}, messages(&got)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"The image app:latest already exists, renaming the old one with ID " + old + " to empty string",
		"Loaded image: app:latest",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r, err := s.Inspect(t.Context(), old)
	if err != nil || len(r.RepoTags) != 0 {
		t.Errorf("old image: tags %v, %v", r.RepoTags, err)
	}
}

func TestForeignImage(t *testing.T) {
	s := open(t)
	i := small(t, "foreign")
	i.platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	load(t, s, ociArchive(t, "foreign", i))
	img := mustResolve(t, s, "foreign")
	if w := s.PlatformWarning(img); !strings.HasPrefix(w, "The requested image's platform (linux/s390x) does not match the detected host platform (linux/") {
		t.Errorf("warning %q", w)
	}
	if _, err := s.ResolvePlatform(t.Context(), "foreign", ocispec.Platform{OS: "linux", Architecture: "s390x"}); err != nil {
		t.Error(err)
	}
	_, err := s.ResolvePlatform(t.Context(), "foreign", ocispec.Platform{OS: "linux", Architecture: "arm64"})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "its platform (linux/s390x) does not match the specified platform (linux/arm64)") {
		t.Errorf("error %v", err)
	}
}

func TestLoadProgress(t *testing.T) {
	s := open(t)
	random := make([]byte, 3<<20)
	for i := range random {
		random[i] = byte(i*i>>3 ^ i)
	}
	var last jsonstream.Message
	seen := map[string]int{}
	_, err := s.Load(t.Context(), bytes.NewReader(ociArchive(t, "a", testImage{layers: [][]byte{tarOf(t, file{name: "f", data: string(random)})}})), LoadOptions{}, func(m jsonstream.Message) {
		if m.Progress != nil {
			seen[m.Status]++
			last = m
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen["Loading layer"] == 0 || seen["Unpacking layer"] == 0 || seen["Loading layer"] > 200 {
		t.Errorf("progress messages: %v", seen)
	}
	if last.Progress.Current != last.Progress.Total {
		t.Errorf("last progress %+v is not the end", last.Progress)
	}
}

// Real images, as test/images makes them.
func TestRealArchives(t *testing.T) {
	dir := os.Getenv("PORTHOLE_TEST_IMAGES")
	if dir == "" {
		testenv.Skip(t, "PORTHOLE_TEST_IMAGES names no directory with image archives")
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in %q: %v", dir, err)
	}
	s := open(t)
	before := inventory(t, s)
	for _, path := range archives {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := s.Load(t.Context(), f, LoadOptions{}, nil)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, l := range loaded {
			if _, err := s.Inspect(t.Context(), l.Name); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if _, err := s.History(t.Context(), l.Name); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if _, err := s.Remove(t.Context(), i.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
		t.Errorf("after removing all (-before +after)\n%s", diff)
	}
}
