package document

import (
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestTypeOf: what a document holds counts, not what it is called.
func TestTypeOf(t *testing.T) {
	for name, c := range map[string]struct {
		claimed, data string
		want          Type
		media         string // after MediaType
		fails         bool
	}{
		"index":                   {ocispec.MediaTypeImageIndex, `{"manifests":[]}`, Index, ocispec.MediaTypeImageIndex, false},
		"Docker's list":           {"application/vnd.docker.distribution.manifest.list.v2+json", `{"manifests":[]}`, Index, "application/vnd.docker.distribution.manifest.list.v2+json", false},
		"manifest":                {ocispec.MediaTypeImageManifest, `{"config":{},"layers":[]}`, Manifest, ocispec.MediaTypeImageManifest, false},
		"manifest that lies":      {ocispec.MediaTypeImageIndex, `{"config":{}}`, Manifest, ocispec.MediaTypeImageManifest, false},
		"index that lies":         {ocispec.MediaTypeImageManifest, `{"manifests":[]}`, Index, ocispec.MediaTypeImageIndex, false},
		"without a type":          {"", `{"layers":[]}`, Manifest, ocispec.MediaTypeImageManifest, false},
		"both at once":            {"", `{"layers":[],"manifests":[]}`, 0, "", true},
		"neither":                 {"", `{}`, 0, "", true},
		"schema 1":                {"", `{"fsLayers":[]}`, 0, "", true},
		"no document":             {"", `nope`, 0, "", true},
		"an array is no document": {"", `[]`, 0, "", true},
	} {
		got, err := TypeOf(c.claimed, []byte(c.data))
		if c.fails {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v, %v; want an invalid argument", name, got, err)
			}
			continue
		}
		if media := MediaType(c.claimed, got); err != nil || got != c.want || media != c.media {
			t.Errorf("%s: %v (%q), %v; want %v (%q)", name, got, media, err, c.want, c.media)
		}
	}
}
