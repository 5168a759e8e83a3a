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

func TestLayoutOf(t *testing.T) {
	for text, want := range map[string][2]string{
		"/dir": {"/dir", ":latest"}, "/dir:tag": {"/dir", ":tag"}, "/a:b/dir": {"/a:b/dir", ":latest"}, "/dir@sha256:aa": {"/dir", "@sha256:aa"},
	} {
		if dir, ref := layoutOf(text); dir != want[0] || ref != want[1] {
			t.Errorf("%s: %s %s", text, dir, ref)
		}
	}
}
