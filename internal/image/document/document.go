// Package document reads the small documents of which images consist: indexes
// and manifests. They come from strangers, so nothing in them is believed that
// can be seen otherwise.
package document

import (
	"encoding/json"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/problem"
)

// Type is what a document is.
type Type int

// The types of documents.
const (
	Manifest Type = iota
	Index
)

// TypeOf tells an index from a manifest: by what it holds, because the
// media type of the descriptor is only a claim, and one of both would be a
// trap for programs that disagree.
func TypeOf(mediaType string, data []byte) (Type, error) {
	var has struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
		Config    json.RawMessage `json:"config"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(data, &has); err != nil {
		return 0, problem.Errorf(errdefs.ErrInvalidArgument, "read manifest: %w", err)
	}
	index := has.Manifests != nil
	manifest := has.Config != nil || has.Layers != nil
	switch {
	case has.FSLayers != nil:
		return 0, problem.Errorf(errdefs.ErrInvalidArgument, "manifest schema 1 is not supported")
	case index == manifest:
		return 0, problem.Errorf(errdefs.ErrInvalidArgument, "document is neither a manifest nor an index (%q)", mediaType)
	case index:
		return Index, nil
	default:
		return Manifest, nil
	}
}

// IsAttestation tells entries that describe another image, as BuildKit adds
// them, from images.
func IsAttestation(desc ocispec.Descriptor) bool {
	if desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
		return true
	}
	return desc.Platform != nil && desc.Platform.OS == "unknown" && desc.Platform.Architecture == "unknown"
}

// MediaType returns a media type that agrees with what a document is.
func MediaType(claimed string, kind Type) string {
	switch {
	case kind == Index && !images.IsIndexType(claimed):
		return ocispec.MediaTypeImageIndex
	case kind == Manifest && !images.IsManifestType(claimed):
		return ocispec.MediaTypeImageManifest
	default:
		return claimed
	}
}

// Unmarshal is json.Unmarshal whose error is errdefs.ErrInvalidArgument.
func Unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return problem.Errorf(errdefs.ErrInvalidArgument, "%w", err)
	}
	return nil
}
