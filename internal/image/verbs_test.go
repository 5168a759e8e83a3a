package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/archive"
)

// fill loads a handful of images: two names of one, a second repository, one
// without a name.
func fill(t *testing.T, s *Store) (one, two, nameless string) {
	t.Helper()
	l := &layout{t: t}
	a, b, c := small(t, "one"), small(t, "two"), small(t, "three")
	b.created = a.created.Add(time.Hour)
	c.created = a.created.Add(2 * time.Hour)
	c.config.Labels = map[string]string{"stage": "test"}
	l.name("app:1", l.image(a))
	l.name("app:2", l.image(a))
	l.name("reg.test/base", l.image(b))
	l.name("", l.image(c))
	load(t, s, l.archive())
	return configID(t, a), configID(t, b), configID(t, c)
}

func TestList(t *testing.T) {
	s := open(t)
	one, two, nameless := fill(t, s)
	tests := []struct {
		name    string
		filters Filters
		want    map[string][]string // names by ID
		error   string
	}{
		{name: "all", want: map[string][]string{one: {"app:1", "app:2"}, two: {"reg.test/base:latest"}, nameless: {}}},
		{name: "dangling", filters: Filters{"dangling": {"true"}}, want: map[string][]string{nameless: {}}},
		{name: "not dangling", filters: Filters{"dangling": {"0"}}, want: map[string][]string{one: {"app:1", "app:2"}, two: {"reg.test/base:latest"}}},
		{name: "label", filters: Filters{"label": {"stage"}}, want: map[string][]string{nameless: {}}},
		{name: "label value", filters: Filters{"label": {"text=one"}}, want: map[string][]string{one: {"app:1", "app:2"}}},
		{name: "two labels", filters: Filters{"label": {"text=one", "stage"}}, want: map[string][]string{}},
		{name: "reference", filters: Filters{"reference": {"app"}}, want: map[string][]string{one: {"app:1", "app:2"}}},
		{name: "reference with tag", filters: Filters{"reference": {"app:2"}}, want: map[string][]string{one: {"app:2"}}},
		{name: "reference pattern", filters: Filters{"reference": {"reg.test/*"}}, want: map[string][]string{two: {"reg.test/base:latest"}}},
		{name: "two references", filters: Filters{"reference": {"app:1", "reg.test/*:latest"}}, want: map[string][]string{one: {"app:1"}, two: {"reg.test/base:latest"}}},
		{name: "before", filters: Filters{"before": {"reg.test/base"}}, want: map[string][]string{one: {"app:1", "app:2"}}},
		{name: "since", filters: Filters{"since": {"app:1"}}, want: map[string][]string{two: {"reg.test/base:latest"}, nameless: {}}},
		{name: "until", filters: Filters{"until": {small(t, "").created.Add(time.Minute).Format(time.RFC3339)}}, want: map[string][]string{one: {"app:1", "app:2"}}},
		{name: "until duration", filters: Filters{"until": {"1h"}}, want: map[string][]string{one: {"app:1", "app:2"}, two: {"reg.test/base:latest"}, nameless: {}}},
		{name: "unknown filter", filters: Filters{"colour": {"red"}}, error: "invalid filter 'colour'"},
		{name: "bad dangling", filters: Filters{"dangling": {"maybe"}}, error: "invalid filter 'dangling=[maybe]'"},
		{name: "bad until", filters: Filters{"until": {"yesterday"}}, error: `failed to parse value as time or duration: "yesterday"`},
		{name: "unknown image", filters: Filters{"before": {"nothing"}}, error: "No such image: nothing:latest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := s.List(t.Context(), ListOptions{Filters: tt.filters, SharedSize: true, Used: func(string) []Use { return make([]Use, 3) }})
			if tt.error != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.error) {
					t.Errorf("error %v, want %q", err, tt.error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string][]string{}
			for i, sum := range list {
				got[sum.ID] = sum.RepoTags
				if sum.Containers != 3 || sum.Size == 0 || sum.SharedSize != 0 || sum.Created == 0 {
					t.Errorf("summary %+v", sum)
				}
				if i > 0 && list[i-1].Created < sum.Created {
					t.Error("not newest first")
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSharedSize(t *testing.T) {
	s := open(t)
	base := tarOf(t, file{name: "base", data: strings.Repeat("b", 1000)})
	load(t, s, ociArchive(t, "a", testImage{layers: [][]byte{base, tarOf(t, file{name: "a", data: "12345"})}}))
	load(t, s, ociArchive(t, "b", testImage{layers: [][]byte{base}}))
	list, err := s.List(t.Context(), ListOptions{SharedSize: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]int64{}
	for _, sum := range list {
		got[sum.RepoTags[0]] = [2]int64{sum.Size, sum.SharedSize}
	}
	if diff := cmp.Diff(map[string][2]int64{"a:latest": {1005, 1000}, "b:latest": {1000, 1000}}, got); diff != "" {
		t.Errorf("size and shared size (-want +got)\n%s", diff)
	}
	usage, err := s.DiskUsage(t.Context())
	if err != nil || usage.Layers != 1005 {
		t.Errorf("layers use %d, %v; want each once", usage.Layers, err)
	}
}

func TestInspectAndHistory(t *testing.T) {
	s := open(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 123, time.UTC)
	first := tarOf(t, file{name: "a", data: "123"})
	second := tarOf(t, file{name: "b", data: "12345"})
	load(t, s, ociArchive(t, "app:1", testImage{
		layers: [][]byte{first, second}, created: at,
		config: ocispec.ImageConfig{Env: []string{"A=b"}, Entrypoint: []string{"/run"}, WorkingDir: "/w", StopSignal: "SIGINT"},
		history: []ocispec.History{
			{Created: &at, CreatedBy: "ADD a"}, {Created: &at, CreatedBy: "ENV A=b", EmptyLayer: true}, {Created: &at, CreatedBy: "ADD b", Comment: "done"},
		},
	}))
	r, err := s.Inspect(t.Context(), "app:1")
	if err != nil {
		t.Fatal(err)
	}
	if r.Created != "2024-05-06T07:08:09.000000123Z" || r.Size != 8 || r.Os != "linux" || r.Comment != "done" ||
		!cmp.Equal(r.RepoTags, []string{"app:1"}) || len(r.RepoDigests) != 1 || !strings.HasPrefix(r.RepoDigests[0], "app@sha256:") ||
		len(r.RootFS.Layers) != 2 || r.RootFS.Type != "layers" || r.Config.WorkingDir != "/w" || r.Config.StopSignal != "SIGINT" || r.Metadata.LastTagTime.IsZero() {
		t.Errorf("inspect: %+v", r)
	}
	h, err := s.History(t.Context(), r.ID[:20])
	if err != nil {
		t.Fatal(err)
	}
	want := []image.HistoryResponseItem{
		{ID: r.ID, CreatedBy: "ADD b", Comment: "done", Created: at.Unix(), Size: 5, Tags: []string{"app:1"}},
		{ID: "<missing>", CreatedBy: "ENV A=b", Created: at.Unix()},
		{ID: "<missing>", CreatedBy: "ADD a", Created: at.Unix(), Size: 3},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("history (-want +got)\n%s", diff)
	}
	for _, f := range []func() error{
		func() error { _, err := s.Inspect(t.Context(), "nothing"); return err },
		func() error { _, err := s.History(t.Context(), "nothing"); return err },
		func() error { return s.Tag(t.Context(), "nothing", "x") },
		func() error { _, err := s.Remove(t.Context(), "nothing", RemoveOptions{}); return err },
		func() error { return s.Save(t.Context(), io.Discard, []string{"nothing"}, nil) },
	} {
		if err := f(); !errdefs.IsNotFound(err) || err.Error() != "No such image: nothing:latest" {
			t.Errorf("unknown image: %v", err)
		}
	}
}

func TestTag(t *testing.T) {
	s := open(t)
	one, two, _ := fill(t, s)
	for _, tt := range []struct{ src, dst, error string }{
		{"app:1", "reg.test/x/y", ""},
		{one[7:19], "again:3", ""},
		{"app:1", "app:1", ""},
		{"app:1", "Bad", "invalid reference format: repository name (library/Bad) must be lowercase"},
		{"app:1", "x@sha256:" + strings.Repeat("0", 64), "refusing to create a tag with a digest reference"},
		{"app:1", "sha256:abc", "refusing to create an ambiguous tag using digest algorithm as name"},
		{"reg.test/base", "app:2", ""},
	} {
		err := s.Tag(t.Context(), tt.src, tt.dst)
		if tt.error == "" && err != nil || tt.error != "" && (err == nil || err.Error() != tt.error) {
			t.Errorf("tag %s %s: %v, want %q", tt.src, tt.dst, err, tt.error)
		}
	}
	for ref, id := range map[string]string{"reg.test/x/y": one, "again:3": one, "app:2": two, "app:1": one} {
		if got := mustResolve(t, s, ref).ID; got != id {
			t.Errorf("%s is %s, want %s", ref, got, id)
		}
	}
	if leases, err := s.leases.List(s.in(t.Context())); err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %v, %v", leases, err)
	}
}

func TestRemove(t *testing.T) {
	chain := func(text string) string {
		r := small(t, text)
		return "D:" + identity.ChainID((&layout{t: t}).diffIDs(r)).String()
	}
	one, two, nameless := configID(t, small(t, "one")), "", ""
	tests := []struct {
		name  string
		ref   func(one, two, nameless string) string
		force bool
		used  []Use
		want  func(one, two, nameless string) []string
		error string
	}{
		{name: "one of two names", ref: func(_, _, _ string) string { return "app:1" }, want: func(_, _, _ string) []string { return []string{"U:app:1"} }},
		{name: "the only name", ref: func(_, _, _ string) string { return "reg.test/base" }, want: func(_, two, _ string) []string { return []string{"U:reg.test/base:latest", "D:" + two, chain("two")} }},
		{name: "id", ref: func(_, two, _ string) string { return two }, want: func(_, two, _ string) []string { return []string{"U:reg.test/base:latest", "D:" + two, chain("two")} }},
		{name: "short id", ref: func(_, two, _ string) string { return two[7:19] }, want: func(_, two, _ string) []string { return []string{"U:reg.test/base:latest", "D:" + two, chain("two")} }},
		{name: "nameless", ref: func(_, _, n string) string { return n }, want: func(_, _, n string) []string { return []string{"D:" + n, chain("three")} }},
		{name: "id with several names", ref: func(one, _, _ string) string { return one }, error: "conflict: unable to delete ONE (must be forced) - image is referenced in multiple repositories"},
		{name: "id with several names, forced", force: true, ref: func(one, _, _ string) string { return one }, want: func(one, _, _ string) []string {
			return []string{"U:app:1", "U:app:2", "D:" + one, chain("one")}
		}},
		{name: "used name", used: []Use{{ID: strings.Repeat("c", 64)}}, ref: func(_, _, _ string) string { return "reg.test/base" }, error: `conflict: unable to remove repository reference "reg.test/base" (must force) - container cccccccccccc is using its referenced image TWO`},
		{name: "used name of several", used: []Use{{ID: strings.Repeat("c", 64), Running: true}}, ref: func(_, _, _ string) string { return "app:2" }, want: func(_, _, _ string) []string { return []string{"U:app:2"} }},
		{name: "used name, forced", force: true, used: []Use{{ID: strings.Repeat("c", 64)}}, ref: func(_, _, _ string) string { return "reg.test/base" }, want: func(_, two, _ string) []string {
			return []string{"U:reg.test/base:latest", "D:" + two, chain("two")}
		}},
		{name: "name used by a running container, forced", force: true, used: []Use{{ID: strings.Repeat("c", 64), Running: true}}, ref: func(_, _, _ string) string { return "reg.test/base" }, want: func(_, _, _ string) []string {
			return []string{"U:reg.test/base:latest"}
		}},
		{name: "id used by a stopped container", used: []Use{{ID: strings.Repeat("c", 64)}}, ref: func(_, two, _ string) string { return two[7:19] }, error: "conflict: unable to delete TWO (must be forced) - image is being used by stopped container cccccccccccc"},
		{name: "id used by a running container", force: true, used: []Use{{ID: strings.Repeat("c", 64), Running: true}}, ref: func(_, two, _ string) string { return two }, error: "conflict: unable to delete TWO (cannot be forced) - image is being used by running container cccccccccccc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			one, two, nameless = fill(t, s)
			list, err := s.Remove(t.Context(), tt.ref(one, two, nameless), RemoveOptions{Force: tt.force, Used: func(string) []Use { return tt.used }})
			if tt.error != "" {
				want := strings.NewReplacer("ONE", one[7:19], "TWO", two[7:19]).Replace(tt.error)
				if !errdefs.IsConflict(err) || err.Error() != want {
					t.Errorf("error %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range list {
				if d.Untagged != "" {
					got = append(got, "U:"+d.Untagged)
				} else {
					got = append(got, "D:"+d.Deleted)
				}
			}
			if diff := cmp.Diff(tt.want(one, two, nameless), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			// What was not deleted is still whole, be it without a name.
			for _, id := range []string{one, two, nameless} {
				_, err := s.Resolve(t.Context(), id)
				if deleted := slices.Contains(got, "D:"+id); deleted != errdefs.IsNotFound(err) {
					t.Errorf("image %s: %v", id, err)
				}
			}
		})
	}
}

// Shared layers are not deleted with one of their images.
func TestRemoveSharedLayers(t *testing.T) {
	s := open(t)
	base := tarOf(t, file{name: "base", data: "b"})
	load(t, s, ociArchive(t, "a", testImage{layers: [][]byte{base, tarOf(t, file{name: "a", data: "1"})}}))
	load(t, s, ociArchive(t, "b", testImage{layers: [][]byte{base}}))
	list, err := s.Remove(t.Context(), "a", RemoveOptions{})
	if err != nil || len(list) != 3 { // name, image, its own layer
		t.Errorf("removed %v, %v", list, err)
	}
	layers := createRootFS(t, s, "c", "b")
	if _, err := os.Stat(filepath.Join(layers.Lower[0], "base")); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	s := open(t)
	one, two, nameless := fill(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{Filters: Filters{"reference": {"x"}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown filter: %v", err)
	}
	deleted := func(o PruneOptions) []string {
		t.Helper()
		r, err := s.Prune(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, d := range r.ImagesDeleted {
			if d.Deleted == one || d.Deleted == two || d.Deleted == nameless {
				ids = append(ids, d.Deleted)
			}
		}
		if (len(ids) > 0) != (r.SpaceReclaimed > 0) {
			t.Errorf("removed %v gave %d bytes", ids, r.SpaceReclaimed)
		}
		return ids
	}
	used := func(id string) []Use {
		if id == two {
			return []Use{{ID: "c"}}
		}
		return nil
	}
	if got := deleted(PruneOptions{Filters: Filters{"until": {"2000-01-01"}}}); got != nil {
		t.Errorf("until long ago: removed %v", got)
	}
	if got := deleted(PruneOptions{Used: used}); !cmp.Equal(got, []string{nameless}) {
		t.Errorf("prune: removed %v", got)
	}
	if got := deleted(PruneOptions{Used: used, Filters: Filters{"dangling": {"false"}}}); !cmp.Equal(got, []string{one}) {
		t.Errorf("prune -a: removed %v", got)
	}
}

func (l *layout) diffIDs(i testImage) []digest.Digest {
	var config ocispec.Image
	if err := json.Unmarshal(l.configOf(i), &config); err != nil {
		l.t.Fatal(err)
	}
	return config.RootFS.DiffIDs
}

func save(t *testing.T, s *Store, platforms []ocispec.Platform, refs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Save(t.Context(), &buf, refs, platforms); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// documents are the named files of an archive.
func documents(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[hdr.Name] = string(data)
	}
}

func TestSave(t *testing.T) {
	s := open(t)
	one, two, nameless := fill(t, s)
	tests := []struct {
		name string
		refs []string
		want map[string][]string // names by ID
	}{
		{"one name", []string{"app:1"}, map[string][]string{one: {"app:1"}}},
		{"a repository", []string{"app"}, map[string][]string{one: {"app:1", "app:2"}}},
		{"several", []string{"app:2", "reg.test/base", "app:2"}, map[string][]string{one: {"app:2"}, two: {"reg.test/base:latest"}}},
		{"by id", []string{nameless[7:19]}, map[string][]string{nameless: {}}},
		{"a named image by id", []string{one}, map[string][]string{one: {}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			saved := save(t, s, nil, tt.refs...)
			if !bytes.Equal(saved, save(t, s, nil, tt.refs...)) {
				t.Error("the same images give another archive")
			}
			files := documents(t, saved)
			// As Docker's older load reads it.
			var entries []archive.DockerEntry
			if err := json.Unmarshal([]byte(files["manifest.json"]), &entries); err != nil {
				t.Fatal(err)
			}
			got := map[string][]string{}
			for _, e := range entries {
				got["sha256:"+filepath.Base(e.Config)] = e.RepoTags
				for _, path := range append(e.Layers, e.Config) {
					if files[path] == "" {
						t.Errorf("archive has no %s", path)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("manifest.json (-want +got)\n%s", diff)
			}
			// As this and newer ones do.
			other := open(t)
			load(t, other, saved)
			list, err := other.List(t.Context(), ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got = map[string][]string{}
			for _, i := range list {
				got[i.ID] = i.RepoTags
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("loaded again (-want +got)\n%s", diff)
			}
			// And by manifest.json alone.
			delete(files, "index.json")
			delete(files, "oci-layout")
			var rest []file
			for name, data := range files {
				if !strings.HasSuffix(name, "/") {
					rest = append(rest, file{name: name, data: data})
				}
			}
			load(t, open(t), tarOf(t, rest...))
		})
	}
}

// Media types in an index are only claims: an image whose index has none, or
// wrong ones, is kept whole and saved whole.
func TestClaimedMediaTypes(t *testing.T) {
	for _, claim := range []string{"", "application/octet-stream", ocispec.MediaTypeImageIndex} {
		s := open(t)
		l := &layout{t: t}
		desc := l.image(small(t, "x"))
		desc.MediaType = claim
		other := l.blob("application/vnd.test", []byte(`{"blobs":[]}`))
		index := l.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{other, desc}}))
		index.MediaType = claim
		l.name("x", index)
		load(t, s, l.archive())
		s.collect(s.in(t.Context()))
		layers := createRootFS(t, s, "c", "x")
		if _, err := os.Stat(filepath.Join(layers.Lower[0], "etc/text")); err != nil {
			t.Errorf("%q: %v", claim, err)
		}
		archive := save(t, s, nil, "x")
		if documents(t, archive)[blobPath(other.Digest)] == "" {
			t.Errorf("%q: what is no image is missing from the archive", claim)
		}
		load(t, open(t), archive)
	}
}

func TestSavePlatform(t *testing.T) {
	s := open(t)
	l := &layout{t: t}
	a, b := small(t, "a"), small(t, "b")
	b.platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	index := l.blob(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{l.image(a), l.image(b)}}))
	l.name("multi", index)
	load(t, s, l.archive())
	whole := documents(t, save(t, s, nil, "multi"))
	foreign := documents(t, save(t, s, []ocispec.Platform{b.platform}, "multi"))
	if len(foreign) >= len(whole) {
		t.Errorf("one platform has %d files, all have %d", len(foreign), len(whole))
	}
	if !strings.Contains(foreign["manifest.json"], strings.TrimPrefix(configID(t, b), "sha256:")) {
		t.Errorf("manifest.json is %s", foreign["manifest.json"])
	}
	err := s.Save(t.Context(), io.Discard, []string{"multi"}, []ocispec.Platform{{OS: "linux", Architecture: "riscv64"}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no image for platform linux/riscv64") {
		t.Errorf("missing platform: %v", err)
	}
}

func TestImport(t *testing.T) {
	s := open(t)
	root := tarOf(t, file{name: "bin/"}, file{name: "bin/sh", data: "sh"})
	before := inventory(t, s)
	for _, tt := range []struct {
		name  string
		data  []byte
		opts  ImportOptions
		error string
	}{
		{"nothing", nil, ImportOptions{}, "empty"},
		{"garbage", []byte(strings.Repeat("garbage ", 200)), ImportOptions{}, "no tar file"},
		{"bad name", root, ImportOptions{Repo: "Bad"}, "must be lowercase"},
		{"bad tag", root, ImportOptions{Repo: "x", Tag: "a b"}, "invalid tag format"},
		{"digest", root, ImportOptions{Repo: "x@sha256:" + strings.Repeat("0", 64)}, "cannot import digest reference"},
		{"bad change", root, ImportOptions{Changes: []string{"RUN rm"}}, "run is not a valid change command"},
		{"escape", tarOf(t, file{name: "../x", data: "x"}), ImportOptions{}, "outside of the layer"},
	} {
		_, err := s.Import(t.Context(), bytes.NewReader(tt.data), tt.opts)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.error) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.error)
		}
		if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
			t.Errorf("%s: something is left behind\n%s", tt.name, diff)
		}
	}
	id, err := s.Import(t.Context(), bytes.NewReader(gzipOf(t, root)), ImportOptions{
		Repo: "imported", Tag: "2", Message: "by hand", Changes: []string{`CMD ["/bin/sh"]`, "ENV A=1 B='2 3'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Inspect(t.Context(), "imported:2")
	if err != nil || r.ID != id || r.Comment != "by hand" || !cmp.Equal(r.Config.Cmd, []string{"/bin/sh"}) || !cmp.Equal(r.Config.Env, []string{"A=1", "B=2 3"}) {
		t.Errorf("inspect: %+v, %v", r, err)
	}
	layers := createRootFS(t, s, "c", "imported:2")
	if data, err := os.ReadFile(filepath.Join(layers.Lower[0], "bin/sh")); err != nil || string(data) != "sh" {
		t.Errorf("file %q, %v", data, err)
	}
	if id, err := s.Import(t.Context(), bytes.NewReader(root), ImportOptions{}); err != nil || mustResolve(t, s, id).Name != "" {
		t.Errorf("nameless import: %v", err)
	}
}

func TestApplyChanges(t *testing.T) {
	tests := []struct {
		changes []string
		want    dockerspec.DockerOCIImageConfig
		error   string
	}{
		{changes: []string{"cmd echo hi"}, want: config(ocispec.ImageConfig{Cmd: []string{"/bin/sh", "-c", "echo hi"}})},
		{changes: []string{`CMD ["a", "b"]`, `ENTRYPOINT ["e"]`}, want: config(ocispec.ImageConfig{Entrypoint: []string{"e"}})},
		{changes: []string{"ENV A=1 B=\"x y\"", "ENV A 2 3"}, want: config(ocispec.ImageConfig{Env: []string{"A=2 3", "B=x y"}})},
		{changes: []string{"EXPOSE 80 53/udp 90-91"}, want: config(ocispec.ImageConfig{ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}})},
		{changes: []string{"LABEL a=1 b=\"c d\""}, want: config(ocispec.ImageConfig{Labels: map[string]string{"a": "1", "b": "c d"}})},
		{changes: []string{"USER app:grp", "WORKDIR /a", "WORKDIR b", "STOPSIGNAL SIGINT"}, want: config(ocispec.ImageConfig{User: "app:grp", WorkingDir: "/a/b", StopSignal: "SIGINT"})},
		{changes: []string{"VOLUME /a /b", `VOLUME ["/c d"]`}, want: config(ocispec.ImageConfig{Volumes: map[string]struct{}{"/a": {}, "/b": {}, "/c d": {}}})},
		{changes: []string{"ONBUILD RUN x"}, want: dockerspec.DockerOCIImageConfig{DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{OnBuild: []string{"RUN x"}}}},
		{changes: []string{"HEALTHCHECK --interval=5s --retries=2 CMD curl x"}, want: dockerspec.DockerOCIImageConfig{DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
			Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "curl x"}, Interval: 5 * time.Second, Retries: 2},
		}}},
		{changes: []string{"HEALTHCHECK NONE"}, want: dockerspec.DockerOCIImageConfig{DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
			Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"NONE"}},
		}}},
		{changes: []string{"", "  "}},
		{changes: []string{"RUN x"}, error: "run is not a valid change command"},
		{changes: []string{"USER a", "COPY a b"}, error: "copy is not a valid change command"},
		{changes: []string{"ENV"}, error: "ENV requires at least one argument"},
		{changes: []string{"ENV A"}, error: "ENV: must have two arguments"},
		{changes: []string{"ENV A=1 B"}, error: `ENV: syntax error - can't find = in "B". Must be of the form: name=value`},
		{changes: []string{`LABEL a="b`}, error: "LABEL: unexpected end of statement"},
		{changes: []string{"EXPOSE 99999"}, error: "EXPOSE: invalid containerPort: 99999"},
		{changes: []string{"EXPOSE 9-1"}, error: "EXPOSE: invalid containerPort: 9-1"},
		{changes: []string{"EXPOSE 1/icmp"}, error: "EXPOSE: invalid proto: icmp"},
		{changes: []string{"STOPSIGNAL NOPE"}, error: "STOPSIGNAL: invalid signal: NOPE"},
		{changes: []string{"ONBUILD FROM x"}, error: "ONBUILD: FROM isn't allowed as an ONBUILD trigger"},
		{changes: []string{"HEALTHCHECK --interval=1ns CMD x"}, error: `HEALTHCHECK: interval "interval" cannot be less than 1ms`},
		{changes: []string{"HEALTHCHECK CMD"}, error: "HEALTHCHECK: missing command after HEALTHCHECK CMD"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.changes, ";"), func(t *testing.T) {
			var got dockerspec.DockerOCIImageConfig
			err := ApplyChanges(&got, tt.changes)
			if tt.error == "" && err != nil || tt.error != "" && (!errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), tt.error)) {
				t.Errorf("error %v, want %q", err, tt.error)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func config(c ocispec.ImageConfig) dockerspec.DockerOCIImageConfig {
	return dockerspec.DockerOCIImageConfig{ImageConfig: c}
}

// What a builder does to names loses no image and no container.
func TestBackendImages(t *testing.T) {
	s := open(t)
	one, two, _ := fill(t, s)
	ctx := s.in(t.Context())
	b := s.Backend()
	layers := createRootFS(t, s, "c", "reg.test/base")
	record, err := b.Images.Get(ctx, "docker.io/library/app:1")
	if err != nil {
		t.Fatal(err)
	}
	record.Name = "reg.test/base:latest"
	if _, err := b.Images.Create(ctx, record); !errdefs.IsAlreadyExists(err) {
		t.Errorf("create over a name: %v", err)
	}
	if _, err := b.Images.Update(ctx, record); err != nil {
		t.Fatal(err)
	}
	if got := mustResolve(t, s, "reg.test/base").ID; got != one {
		t.Errorf("name stands for %s, want %s", got, one)
	}
	if got := mustResolve(t, s, two); got.Name != "" {
		t.Errorf("displaced image is named %q", got.Name)
	}
	if err := b.Images.Delete(ctx, danglingName(mustResolve(t, s, two).Target.Digest)); err != nil {
		t.Fatal(err)
	}
	// One that is built without a name stays until it has one.
	nameless := images.Image{Name: danglingName(record.Target.Digest), Target: record.Target}
	if _, err := b.Images.Create(ctx, nameless); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Images.Get(ctx, nameless.Name); err != nil {
		t.Errorf("an image without a name: %v", err)
	}
	record.Name = "reg.test/named:1"
	if _, err := b.Images.Create(ctx, record); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Images.Get(ctx, nameless.Name); !errdefs.IsNotFound(err) {
		t.Errorf("the record without a name is left: %v", err)
	}
	s.collect(ctx)
	if _, err := os.Stat(filepath.Join(layers.Lower[0], "etc/text")); err != nil {
		t.Errorf("layer of a container: %v", err)
	}
	if err := b.Images.Delete(ctx, "nothing"); !errdefs.IsNotFound(err) {
		t.Errorf("delete of nothing: %v", err)
	}
}

// Images that share layers, as the states of a build do, are listed by reading the
// store's records and each layer once, not once for each image.
func TestListReadsOnce(t *testing.T) {
	const n = 12
	root := t.TempDir()
	s := openAt(t, root, Limits{})
	var layers [][]byte
	for i := range n {
		layers = append(layers, tarOf(t, file{name: itoa(i), data: "12345"}))
		load(t, s, ociArchive(t, "state"+itoa(i), testImage{layers: layers}))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, Limits{})
	t.Cleanup(func() { _ = s.Close() })
	records, layerLooks := &countedImages{Store: s.images}, &countedStats{Snapshotter: s.snapshot}
	s.images, s.snapshot = records, layerLooks
	if empty, err := s.Empty(t.Context()); empty || err != nil || layerLooks.n > 0 {
		t.Errorf("empty: %t, %v, after %d looks at layers", empty, err, layerLooks.n)
	}
	records.n = 0
	list, err := s.List(t.Context(), ListOptions{SharedSize: true})
	if err != nil || len(list) != n {
		t.Fatalf("list: %d images, %v", len(list), err)
	}
	for _, sum := range list {
		if sum.RepoTags[0] == "state11:latest" && (sum.Size != 5*n || sum.SharedSize != 5*(n-1)) {
			t.Errorf("%s has a size of %d, %d of it shared", sum.RepoTags, sum.Size, sum.SharedSize)
		}
	}
	if records.n > 2 || layerLooks.n > n {
		t.Errorf("list of %d images read the records %d times, and looked at layers %d times", n, records.n, layerLooks.n)
	}
}

type countedImages struct {
	images.Store
	n int
}

func (c *countedImages) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	c.n++
	return c.Store.List(ctx, filters...)
}

type countedStats struct {
	snapshots.Snapshotter
	n int
}

func (c *countedStats) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	c.n++
	return c.Snapshotter.Stat(ctx, key)
}
