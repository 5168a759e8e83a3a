package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// packed returns the manifest of an image whose layers are all packed. Where
// some were not, it is a new one, which the name stands for from now on. The
// image's ID stays, as it is that of the configuration.
func (s *Store) packed(ctx context.Context, ref reference.NamedTagged, m platformManifest) (ocispec.Descriptor, error) {
	manifest := m.manifest
	manifest.Layers = make([]ocispec.Descriptor, len(m.manifest.Layers))
	changed := false
	for i, layer := range m.manifest.Layers {
		p, err := s.packLayer(ctx, layer)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("pack layer %d (%s): %w", i+1, layer.Digest, err)
		}
		changed = changed || p.Digest != layer.Digest
		manifest.Layers[i] = p
	}
	if !changed {
		return m.desc, nil
	}
	target, err := s.writeManifest(ctx, manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	c, err := s.prepare(ctx, target, []ocispec.Platform{m.platform}, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = s.setName(ctx, ref.String(), target)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	s.remember(c)
	return target, nil
}

// packLayer packs a layer with gzip, which all registries and engines know.
// The same layer gives the same result, so that the registry may have it.
func (s *Store) packLayer(ctx context.Context, layer ocispec.Descriptor) (ocispec.Descriptor, error) {
	kind, err := s.layerMediaType(ctx, layer)
	if err != nil || kind != ocispec.MediaTypeImageLayer {
		return layer, err
	}
	blob, err := s.content.ReaderAt(ctx, layer)
	if err != nil {
		return layer, fmt.Errorf("open blob: %w", err)
	}
	defer blob.Close()
	w, err := content.OpenWriter(ctx, s.content, content.WithRef("pack-"+layer.Digest.String()))
	if err != nil {
		return layer, fmt.Errorf("write blob: %w", err)
	}
	defer w.Close()
	if err := w.Truncate(0); err != nil { // of an attempt that was broken off
		return layer, fmt.Errorf("write blob: %w", err)
	}
	z := gzip.NewWriter(w)
	_, err = io.Copy(z, contextReader{ctx: ctx, r: content.NewReader(blob)})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return layer, fmt.Errorf("write blob: %w", err)
	}
	status, err := w.Status()
	if err != nil {
		return layer, fmt.Errorf("write blob: %w", err)
	}
	packed := ocispec.Descriptor{MediaType: packedType(layer.MediaType), Digest: w.Digest(), Size: status.Offset}
	if err := w.Commit(ctx, packed.Size, packed.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return layer, fmt.Errorf("write blob %s: %w", packed.Digest, err)
	}
	return packed, nil
}

// packedType keeps to the family of media types that the manifest is of.
func packedType(plain string) string {
	if plain == images.MediaTypeDockerSchema2Layer {
		return images.MediaTypeDockerSchema2LayerGzip
	}
	return ocispec.MediaTypeImageLayerGzip
}
