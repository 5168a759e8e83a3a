package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/archive"
	"github.com/portholehq/porthole/internal/image/packed"
)

// LoadOptions are the options of [Store.Load].
type LoadOptions struct {
	// Platforms are the platforms that the caller wants; each image of the
	// archive must have one of them. Empty means this machine's.
	Platforms []ocispec.Platform
	// Quiet leaves out the progress of single layers.
	Quiet bool
}

// Loaded is one image that came out of an archive.
type Loaded struct {
	Name string // familiar, with tag; empty for an image without a name
	ID   string
}

// Load reads an image archive: the layout of `docker save`, old and new, or an
// OCI layout, plain or packed with gzip, zstd or bzip2. Progress and the lines
// that Docker prints ("Loaded image: …") are given to progress, which may be
// nil; they are in the order in which images are in the archive.
//
// An archive that is damaged, hostile or too large is an error of class
// errdefs.ErrInvalidArgument, errdefs.ErrNotFound (a part or platform is
// missing) or errdefs.ErrResourceExhausted (disk full), and leaves nothing
// behind: all images of an archive come in, or none.
func (s *Store) Load(ctx context.Context, r io.Reader, opts LoadOptions, progress func(jsonstream.Message)) ([]Loaded, error) {
	ctx, done, err := s.lease(s.in(ctx))
	if err != nil {
		return nil, err
	}
	defer done()
	report, detail := progressFuncs(progress, opts.Quiet)
	files, err := s.openArchive(ctx, r, detail)
	if err != nil {
		return nil, err
	}
	found, err := files.Images(ctx)
	if err != nil {
		return nil, err
	}
	ready := make([]*contents, len(found))
	for i, l := range found {
		if ready[i], err = s.prepare(ctx, l.Target, opts.Platforms, detail); err != nil {
			return nil, fmt.Errorf("%s: %w", title(l), err)
		}
	}
	if err := s.flushLayers(); err != nil {
		return nil, err
	}
	return s.publish(ctx, found, ready, report)
}

// progressFuncs returns the function for the lines that are always told and
// the one for progress, which is nil when nobody wants it.
func progressFuncs(progress func(jsonstream.Message), quiet bool) (report, detail func(jsonstream.Message)) {
	if progress == nil {
		return func(jsonstream.Message) {}, nil
	}
	if quiet {
		return progress, nil
	}
	return progress, progress
}

func title(l archive.Image) string {
	if l.Name == "" {
		return "image " + l.Target.Digest.String()
	}
	return fmt.Sprintf("image %q", familiar(l.Name))
}

func (s *Store) openArchive(ctx context.Context, r io.Reader, detail func(jsonstream.Message)) (*archive.Archive, error) {
	stream, err := packed.Open(r, s.limits, s.root)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer stream.Close()
	return archive.Read(ctx, stream, &ingester{store: s, progress: detail}, s.limits.JSON)
}

func (s *Store) writeManifest(ctx context.Context, m ocispec.Manifest) (ocispec.Descriptor, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("make manifest: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, s.writeBlob(ctx, desc, data)
}

// prepare makes an image ready to be named: everything is there, unpacked for
// this machine, and labelled so that it stays together.
func (s *Store) prepare(ctx context.Context, target ocispec.Descriptor, wanted []ocispec.Platform, detail func(jsonstream.Message)) (*contents, error) {
	manifests, err := s.manifests(ctx, target)
	if err != nil {
		return nil, err
	}
	m, err := s.choose(manifests, wanted)
	if err != nil {
		// A single image for another machine is loaded; it says so when run.
		if len(manifests) != 1 || len(wanted) > 0 {
			return nil, err
		}
		m = manifests[0]
	}
	for _, layer := range m.manifest.Layers {
		if err := s.checkLayer(ctx, layer); err != nil {
			return nil, err
		}
	}
	c, err := s.completeContents(ctx, target, m)
	if err != nil {
		return nil, err
	}
	if c.snapshot, err = s.unpack(ctx, c, detail); err != nil {
		return nil, err
	}
	return c, s.labelContents(ctx, target, c)
}

func (s *Store) checkLayer(ctx context.Context, layer ocispec.Descriptor) error {
	if err := layer.Digest.Validate(); err != nil {
		return failf(errdefs.ErrInvalidArgument, "layer digest %q: %w", layer.Digest, err)
	}
	info, err := s.content.Info(ctx, layer.Digest)
	if errdefs.IsNotFound(err) {
		return failf(errdefs.ErrNotFound, "layer %s is missing from the archive", layer.Digest)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	if info.Size != layer.Size {
		return failf(errdefs.ErrInvalidArgument, "layer %s has %d bytes, the manifest says %d", layer.Digest, info.Size, layer.Size)
	}
	return nil
}

// publish gives the images their names.
func (s *Store) publish(ctx context.Context, found []archive.Image, ready []*contents, report func(jsonstream.Message)) ([]Loaded, error) {
	var loaded []Loaded
	for i, l := range found {
		c := ready[i]
		name := l.Name
		if name == "" {
			name = danglingName(c.target.Digest)
		}
		displaced, err := s.nameContents(ctx, name, c)
		if err != nil {
			return loaded, err
		}
		if displaced != nil && displaced.id() != c.id() {
			report(jsonstream.Message{Stream: fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar(name), displaced.id())})
		}
		if l.Name == "" {
			report(jsonstream.Message{Stream: "Loaded image ID: " + c.id() + "\n"})
		} else {
			report(jsonstream.Message{Stream: "Loaded image: " + familiar(name) + "\n"})
		}
		loaded = append(loaded, Loaded{Name: familiar(l.Name), ID: c.id()})
	}
	return loaded, nil
}

// nameContents names an image and remembers what it is made of.
func (s *Store) nameContents(ctx context.Context, name string, c *contents) (displaced *contents, err error) {
	if isDangling(name) {
		// A nameless image that has a name already needs no record.
		others, err := s.images.List(ctx, fmt.Sprintf("target.digest==%s", c.target.Digest))
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		if len(others) > 0 {
			s.remember(c)
			return nil, nil
		}
	}
	displaced, err = s.setName(ctx, name, c.target)
	if err != nil {
		return nil, err
	}
	s.remember(c)
	return displaced, nil
}

func (s *Store) remember(c *contents) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolved[c.target.Digest] = c
}
