package image

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/name"
	"github.com/portholehq/porthole/internal/image/packed"
)

// ImportOptions are the options of [Store.Import].
type ImportOptions struct {
	// Repo and Tag name the image; an empty Repo leaves it without a name, an
	// empty Tag means latest.
	Repo, Tag string
	// Message is the comment; empty means "Imported from -".
	Message string
	// Changes are Dockerfile instructions, see [ApplyChanges].
	Changes []string
	// Platform is what the image is for; nil means this machine.
	Platform *ocispec.Platform
}

// Import makes an image of one layer from a tar stream, packed or not, and
// returns its ID. A bad stream, name or instruction leaves nothing behind.
func (s *Store) Import(ctx context.Context, r io.Reader, opts ImportOptions) (string, error) {
	name, err := opts.name()
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	img := dockerspec.DockerOCIImage{Image: ocispec.Image{Created: &now, Platform: s.platform}}
	if opts.Platform != nil {
		img.Platform = platforms.Normalize(*opts.Platform)
	}
	if err := ApplyChanges(&img.Config, opts.Changes); err != nil {
		return "", err
	}
	ctx, done, err := s.lease(s.in(ctx))
	if err != nil {
		return "", err
	}
	defer done()
	layer, err := s.importLayer(ctx, r)
	if err != nil {
		return "", err
	}
	message := opts.Message
	if message == "" {
		message = "Imported from -"
	}
	img.History = []ocispec.History{{Created: &now, Comment: message}}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}
	c, err := s.assemble(ctx, img, []ocispec.Descriptor{layer})
	if err != nil {
		return "", err
	}
	if c.snapshot, err = s.unpack(ctx, c, nil); err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	if err := s.labelContents(ctx, c.target, c); err != nil {
		return "", err
	}
	if err := s.flushLayers(); err != nil {
		return "", err
	}
	if name == "" {
		name = danglingName(c.target.Digest)
	}
	if _, err := s.nameContents(ctx, name, c); err != nil {
		return "", err
	}
	return c.id(), nil
}

func (o ImportOptions) name() (string, error) {
	if o.Repo == "" {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(o.Repo)
	if err != nil {
		return "", failf(errdefs.ErrInvalidArgument, "%s", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", failf(errdefs.ErrInvalidArgument, "cannot import digest reference")
	}
	if o.Tag != "" {
		if named, err = reference.WithTag(named, o.Tag); err != nil {
			return "", failf(errdefs.ErrInvalidArgument, "%s", err)
		}
	}
	tagged, err := name.ParseTag(named.String())
	if err != nil {
		return "", err
	}
	return tagged.String(), nil
}

// importLayer stores a tar stream, unpacked, as a blob, so that its digest is
// the layer's diff ID.
func (s *Store) importLayer(ctx context.Context, r io.Reader) (ocispec.Descriptor, error) {
	stream, err := packed.Open(r, s.limits, s.root)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: %w", err)
	}
	defer stream.Close()
	w, err := content.OpenWriter(ctx, s.content, content.WithRef("import-"+rand.Text()))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: write layer: %w", err)
	}
	defer w.Close()
	n, err := io.Copy(w, contextReader{ctx, stream})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: %w", packed.ReadError(err))
	}
	if n == 0 {
		return ocispec.Descriptor{}, failf(errdefs.ErrInvalidArgument, "import: the archive is empty")
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: n}
	if err := w.Commit(ctx, n, desc.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("import: write layer: %w", err)
	}
	return desc, nil
}

// assemble writes the configuration and manifest of a new image.
func (s *Store) assemble(ctx context.Context, img dockerspec.DockerOCIImage, layers []ocispec.Descriptor) (*contents, error) {
	data, err := json.Marshal(img)
	if err != nil {
		return nil, fmt.Errorf("make image configuration: %w", err)
	}
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := s.writeBlob(ctx, config, data); err != nil {
		return nil, err
	}
	target, err := s.writeManifest(ctx, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return nil, err
	}
	return &contents{
		target:   target,
		manifest: target,
		layers:   layers,
		config:   config,
		image:    img,
		platform: img.Platform,
		chain:    identity.ChainIDs(append([]digest.Digest(nil), img.RootFS.DiffIDs...)),
	}, nil
}
