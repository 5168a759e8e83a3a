package caller

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"

	"github.com/portholehq/porthole/internal/buildspec"
)

// prepared is a build of an empty directory with a Dockerfile.
func prepared(t *testing.T, change func(*buildspec.Request)) (*build, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &build{o: Options{In: strings.NewReader("FROM scratch\n"), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, r: buildspec.Request{Context: dir, Progress: "plain"}}
	change(&b.r)
	t.Cleanup(func() { _ = b.steps.Run() })
	return b, b.prepare()
}

func TestPrepare(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*buildspec.Request)
		attrs  map[string]string
	}{
		"plain":     {func(*buildspec.Request) {}, map[string]string{"filename": "Dockerfile"}},
		"platforms": {func(r *buildspec.Request) { r.Platforms = []string{"linux/amd64", "linux/arm64"} }, map[string]string{"platform": "linux/amd64,linux/arm64"}},
		"stages":    {func(r *buildspec.Request) { r.NoCacheFilter = []string{"a", "b"} }, map[string]string{"no-cache": "a,b"}},
		"limits":    {func(r *buildspec.Request) { r.Memory = 1 << 20 }, map[string]string{"memory": "1048576"}},
		"a URL":     {func(r *buildspec.Request) { r.Context, r.File = "https://example.com/x.git", "d/web" }, map[string]string{"context": "https://example.com/x.git", "filename": "d/web"}},
		"a URL with a Dockerfile of standard input": {func(r *buildspec.Request) { r.Context, r.File = "https://example.com/x.git", "-" }, map[string]string{"dockerfilekey": "dockerfile", "filename": "Dockerfile"}},
		"standard input": {func(r *buildspec.Request) { r.Context = "-" }, map[string]string{"filename": "Dockerfile"}},
		"contexts": {func(r *buildspec.Request) {
			r.BuildContexts = []string{"base=docker-image://alpine", "src=" + r.Context}
		}, map[string]string{"context:base": "docker-image://alpine", "context:src": "local:src"}},
		"attestations": {func(r *buildspec.Request) {
			r.Attests = []string{"type=provenance,mode=max", "type=sbom,disabled=true"}
		}, map[string]string{"attest:provenance": "mode=max", "attest:sbom": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := prepared(t, c.change)
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range c.attrs {
				if got := b.solve.FrontendAttrs[key]; got != want {
					t.Errorf("%s: %q, want %q", key, got, want)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*buildspec.Request){
		"has no id":                     func(r *buildspec.Request) { r.Secrets = []string{"src=x"} },
		"unexpected key 'mode'":         func(r *buildspec.Request) { r.Secrets = []string{"id=x,mode=1"} },
		"unsupported secret type":       func(r *buildspec.Request) { r.Secrets = []string{"id=x,type=vault"} },
		"dest is required for tar":      func(r *buildspec.Request) { r.Outputs = []string{"type=tar"} },
		"dest is not possible":          func(r *buildspec.Request) { r.Outputs = []string{"type=image,dest=x"} },
		`"nope" is not supported`:       func(r *buildspec.Request) { r.Outputs = []string{"type=nope"} },
		"tag is needed":                 func(r *buildspec.Request) { r.Push = true },
		"has no type":                   func(r *buildspec.Request) { r.CacheTo = []string{"ref=x"} },
		`type "inline" is not`:          func(r *buildspec.Request) { r.CacheFrom = []string{"type=inline"} },
		"want NAME=VALUE":               func(r *buildspec.Request) { r.BuildContexts = []string{"x"} },
		"is no OCI layout":              func(r *buildspec.Request) { r.BuildContexts = []string{"x=oci-layout://" + r.Context} },
		"another target of a bake file": func(r *buildspec.Request) { r.BuildContexts = []string{"x=target:y"} },
		"cannot currently be used":      func(r *buildspec.Request) { r.NoCache, r.NoCacheFilter = true, []string{"x"} },
		"both build context and":        func(r *buildspec.Request) { r.Context, r.File = "-", "-" },
		"ambiguous Dockerfile source":   func(r *buildspec.Request) { r.Context, r.File = "-", "x" },
		"unable to prepare context":     func(r *buildspec.Request) { r.Context = filepath.Join(r.Context, "none") },
		"invalid progress mode":         func(r *buildspec.Request) { r.Progress = "nope" },
		"want provenance or sbom":       func(r *buildspec.Request) { r.Attests = []string{"type=x"} },
		`network mode "mine" not suppo`: func(r *buildspec.Request) { r.NetworkMode = "mine" },
	} {
		if _, err := prepared(t, change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestOutputs(t *testing.T) {
	for text, want := range map[string]client.ExportEntry{
		"out":                             {Type: "local", OutputDir: "out", Attrs: map[string]string{}},
		"type=local,dest=out,mode=delete": {Type: "local", OutputDir: "out", Attrs: map[string]string{"mode": "delete"}},
		"type=docker":                     {Type: "moby", Attrs: map[string]string{"name": "a,b"}},
		"type=image,push=true":            {Type: "image", Attrs: map[string]string{"name": "a,b", "push": "true"}},
		"type=registry,name=c":            {Type: "image", Attrs: map[string]string{"name": "c", "push": "true"}},
	} {
		b, err := prepared(t, func(r *buildspec.Request) { r.Tags, r.Outputs = []string{"a", "b"}, []string{text} })
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff([]client.ExportEntry{want}, b.solve.Exports); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	if b, err := prepared(t, func(r *buildspec.Request) { r.Outputs = []string{"type=cacheonly"} }); err != nil || len(b.solve.Exports) != 0 {
		t.Errorf("cacheonly: %v, %v", b.solve.Exports, err)
	}
}

func TestMetadata(t *testing.T) {
	got := metadata(map[string]string{"a": "sha256:x", "b": base64.StdEncoding.EncodeToString([]byte(`{"size":1}`))})
	text, err := json.Marshal(got)
	if want := `{"a":"sha256:x","b":{"size":1}}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

func TestFindLayout(t *testing.T) {
	one, two := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	layout := func(manifests string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[` + manifests + `]}`,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	named := func(digest, name string) string {
		return `{"digest":"` + digest + `","annotations":{"org.opencontainers.image.ref.name":"` + name + `"}}`
	}
	single, pair, nowhere := layout(named(one, "v1")), layout(named(one, "v1")+","+named(two, "latest")), filepath.Join(t.TempDir(), "nowhere")
	neither := layout(named(one, "v1") + "," + named(two, "v2"))
	for text, want := range map[string]struct{ digest, complaint string }{
		single:                {one, ""},
		single + ":v1":        {one, ""},
		single + "@" + two:    {two, ""},
		pair:                  {two, ""},
		pair + ":v1":          {one, ""},
		pair + ":v3":          {"", `has no image "v3", but: v1@` + one + ", latest@" + two},
		single + ":v3":        {"", `has no image "v3"`},
		neither:               {"", `has no image "latest"`},
		single + "@sha256:aa": {"", "invalid checksum digest length"},
		nowhere:               {"", "is no OCI layout"},
		nowhere + "@" + one:   {"", "is no OCI layout"},
		filepath.Dir(nowhere): {"", "is no OCI layout"},
		layout("no JSON"):     {"", "read the index of"},
	} {
		_, got, err := findLayout(text)
		if want.complaint == "" && (err != nil || got.String() != want.digest) {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want.digest)
		}
		if want.complaint != "" && (err == nil || !strings.Contains(err.Error(), want.complaint)) {
			t.Errorf("%s: %v, want %q", text, err, want.complaint)
		}
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("the directory was made")
	}
}
