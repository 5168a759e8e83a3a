package document

import (
	"encoding/json"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzTypeOf sees that a document is taken for what it is: never one for another,
// whatever it says of itself.
func FuzzTypeOf(f *testing.F) {
	const index, manifest = ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest
	f.Add(index, []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add(index, []byte(`{"config":{},"layers":[]}`))
	f.Add(manifest, []byte(`{"manifests":[],"layers":[]}`))
	f.Add(manifest, []byte(`{"Manifests":[{"platform":{"os":"unknown","architecture":"unknown"}}],"LAYERS":null}`))
	f.Add("", []byte(`{"fsLayers":[],"config":{}}`))
	f.Add("x", []byte(`null`))
	f.Fuzz(func(t *testing.T, claimed string, data []byte) {
		kind, err := TypeOf(claimed, data)
		if err != nil {
			return
		}
		media := MediaType(claimed, kind)
		if again := MediaType(media, kind); again != media {
			t.Errorf("a %q is a %q", media, again)
		}
		switch kind {
		case Index:
			var doc ocispec.Manifest
			if json.Unmarshal(data, &doc) == nil && (len(doc.Layers) > 0 || doc.Config.Digest != "") {
				t.Errorf("an index with layers: %q", data)
			}
			var list ocispec.Index
			if Unmarshal(data, &list) == nil {
				for _, desc := range list.Manifests {
					IsAttestation(desc)
				}
			}
		case Manifest:
			var doc ocispec.Index
			if json.Unmarshal(data, &doc) == nil && len(doc.Manifests) > 0 {
				t.Errorf("a manifest with manifests: %q", data)
			}
		}
	})
}
