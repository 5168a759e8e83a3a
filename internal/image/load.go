package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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

// loadable is an image found in an archive, before it is in the store.
type loadable struct {
	name   string // canonical record name; empty when it has none
	target ocispec.Descriptor
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
	archive, err := s.openArchive(ctx, r, detail)
	if err != nil {
		return nil, err
	}
	found, err := s.imagesIn(ctx, archive)
	if err != nil {
		return nil, err
	}
	ready := make([]*contents, len(found))
	for i, l := range found {
		if ready[i], err = s.prepare(ctx, l.target, opts.Platforms, detail); err != nil {
			return nil, fmt.Errorf("%s: %w", l.title(), err)
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

func (l loadable) title() string {
	if l.name == "" {
		return "image " + l.target.Digest.String()
	}
	return fmt.Sprintf("image %q", familiar(l.name))
}

func (s *Store) openArchive(ctx context.Context, r io.Reader, detail func(jsonstream.Message)) (*archive, error) {
	packed := &countingReader{r: r}
	stream, kind, err := decompress(packed)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer stream.Close()
	b := &budget{limits: s.limits, dir: s.root}
	if kind != uncompressed {
		b.packed = packed.count
	}
	return s.readArchive(ctx, stream, b, detail)
}

// imagesIn finds the images of an archive. An OCI layout goes before Docker's
// manifest.json, which then only helps with names.
func (s *Store) imagesIn(ctx context.Context, a *archive) ([]loadable, error) {
	docker, err := a.dockerManifest()
	if err != nil {
		return nil, err
	}
	var found []loadable
	_, hasIndex := a.files[ocispec.ImageIndexFile]
	switch {
	case hasIndex:
		found, err = s.ociImages(ctx, a, docker)
	case docker != nil:
		found, err = s.dockerImages(ctx, a, docker)
	case a.files["repositories"].data != nil:
		err = failf(errdefs.ErrInvalidArgument, "archive was made before Docker 1.10 (it has no manifest.json)")
	default:
		err = failf(errdefs.ErrInvalidArgument, "unrecognized image format: archive has neither index.json nor manifest.json")
	}
	if err == nil && len(found) == 0 {
		err = failf(errdefs.ErrInvalidArgument, "archive holds no image")
	}
	return found, err
}

// ociImages finds the images of an OCI layout: the entries of index.json, or
// the named entries of a nameless index in it.
func (s *Store) ociImages(ctx context.Context, a *archive, docker []dockerEntry) ([]loadable, error) {
	if err := a.checkLayout(); err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := unmarshal(a.files[ocispec.ImageIndexFile].data, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	names, err := s.dockerNames(a, docker)
	if err != nil {
		return nil, err
	}
	var found []loadable
	for _, desc := range index.Manifests {
		if isAttestation(desc) {
			continue
		}
		l, err := s.ociEntry(ctx, desc, names)
		if err != nil {
			return nil, err
		}
		for _, e := range l {
			if !slices.ContainsFunc(found, func(f loadable) bool { return f.name == e.name && f.target.Digest == e.target.Digest }) {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

func (s *Store) ociEntry(ctx context.Context, desc ocispec.Descriptor, names map[digest.Digest][]string) ([]loadable, error) {
	data, err := s.archiveDocument(ctx, desc)
	if err != nil {
		return nil, err
	}
	kind, err := documentKind(desc.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	desc.MediaType = mediaTypeOf(desc.MediaType, kind)
	name, err := annotatedName(desc.Annotations)
	if err != nil {
		return nil, err
	}
	if name != "" {
		return []loadable{{name: name, target: desc}}, nil
	}
	if kind == documentIndex {
		nested, err := s.namedIn(ctx, data)
		if err != nil || len(nested) > 0 {
			return nested, err
		}
		return []loadable{{target: desc}}, nil
	}
	var m ocispec.Manifest
	if err := unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	var found []loadable
	for _, n := range names[m.Config.Digest] {
		found = append(found, loadable{name: n, target: desc})
	}
	if len(found) == 0 {
		found = []loadable{{target: desc}}
	}
	return found, nil
}

// namedIn finds the entries of a nested index that have names of their own.
func (s *Store) namedIn(ctx context.Context, data []byte) ([]loadable, error) {
	var index ocispec.Index
	if err := unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	var found []loadable
	for _, desc := range index.Manifests {
		name, err := annotatedName(desc.Annotations)
		if err != nil {
			return nil, err
		}
		if name == "" || isAttestation(desc) {
			continue
		}
		data, err := s.archiveDocument(ctx, desc)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kind, err := documentKind(desc.MediaType, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Digest, err)
		}
		desc.MediaType = mediaTypeOf(desc.MediaType, kind)
		found = append(found, loadable{name: name, target: desc})
	}
	return found, nil
}

// archiveDocument reads a manifest or index that an archive refers to.
func (s *Store) archiveDocument(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, failf(errdefs.ErrInvalidArgument, "index.json: digest %q: %w", desc.Digest, err)
	}
	data, err := s.readJSON(ctx, desc)
	if errdefs.IsNotFound(err) {
		return nil, failf(errdefs.ErrNotFound, "manifest %s is missing from the archive", desc.Digest)
	}
	return data, err
}

// mediaTypeOf returns a media type that agrees with what a document is.
func mediaTypeOf(claimed string, kind documentType) string {
	switch {
	case kind == documentIndex && !images.IsIndexType(claimed):
		return ocispec.MediaTypeImageIndex
	case kind == documentManifest && !images.IsManifestType(claimed):
		return ocispec.MediaTypeImageManifest
	default:
		return claimed
	}
}

// annotatedName returns the canonical name that an entry of index.json gives
// to its image: containerd's whole name, or OCI's reference name. The latter
// is by the specification any string; archives of one image often have just
// "latest" there, which is no name.
func annotatedName(annotations map[string]string) (string, error) {
	name := annotations[images.AnnotationImageName]
	if name == "" {
		name = annotations[ocispec.AnnotationRefName]
		if name == "latest" {
			name = ""
		}
	}
	if name == "" {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", failf(errdefs.ErrInvalidArgument, "image name %q in index.json: %w", name, err)
	}
	// A digest in the name says nothing that the target does not say.
	if tagged, ok := named.(reference.Tagged); ok {
		if named, err = reference.WithTag(reference.TrimNamed(named), tagged.Tag()); err != nil {
			return "", failf(errdefs.ErrInvalidArgument, "image name %q in index.json: %w", name, err)
		}
		return named.String(), nil
	}
	return reference.TagNameOnly(reference.TrimNamed(named)).String(), nil
}

func (a *archive) checkLayout() error {
	data := a.files[ocispec.ImageLayoutFile].data
	if data == nil {
		return nil // docker load takes those too
	}
	var layout ocispec.ImageLayout
	if err := unmarshal(data, &layout); err != nil {
		return fmt.Errorf("oci-layout: %w", err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return failf(errdefs.ErrInvalidArgument, "OCI layout version %q is not supported", layout.Version)
	}
	return nil
}

// dockerEntry is an image in manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) dockerManifest() ([]dockerEntry, error) {
	data := a.files["manifest.json"].data
	if data == nil {
		return nil, nil
	}
	entries := []dockerEntry{}
	if err := unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	return entries, nil
}

func (e dockerEntry) names() ([]string, error) {
	var names []string
	for _, tag := range e.RepoTags {
		named, err := parseTag(tag)
		if err != nil {
			return nil, fmt.Errorf("image name %q in manifest.json: %w", tag, err)
		}
		names = append(names, named.String())
	}
	return names, nil
}

// dockerNames tells which names manifest.json has for a configuration.
func (s *Store) dockerNames(a *archive, entries []dockerEntry) (map[digest.Digest][]string, error) {
	names := map[digest.Digest][]string{}
	for _, e := range entries {
		config, ok := a.lookup(e.Config)
		if !ok {
			continue
		}
		n, err := e.names()
		if err != nil {
			return nil, err
		}
		names[config.desc.Digest] = append(names[config.desc.Digest], n...)
	}
	return names, nil
}

// dockerImages makes manifests for the images of manifest.json.
func (s *Store) dockerImages(ctx context.Context, a *archive, entries []dockerEntry) ([]loadable, error) {
	var found []loadable
	for i, e := range entries {
		target, err := s.dockerImage(ctx, a, e)
		if err != nil {
			return nil, fmt.Errorf("image %d of manifest.json: %w", i+1, err)
		}
		names, err := e.names()
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			found = append(found, loadable{name: n, target: target})
		}
		if len(names) == 0 {
			found = append(found, loadable{target: target})
		}
	}
	return found, nil
}

// configName matches configurations that are named for their digest.
var configName = regexp.MustCompile(`^([0-9a-f]{64})\.json$`)

func (s *Store) dockerImage(ctx context.Context, a *archive, e dockerEntry) (ocispec.Descriptor, error) {
	config, ok := a.lookup(e.Config)
	if !ok || config.desc.Digest == "" {
		return ocispec.Descriptor{}, failf(errdefs.ErrNotFound, "configuration %q is missing from the archive", e.Config)
	}
	if m := configName.FindStringSubmatch(path.Base(e.Config)); m != nil && m[1] != config.desc.Digest.Encoded() {
		return ocispec.Descriptor{}, failf(errdefs.ErrInvalidArgument, "configuration %q: digest mismatch: the content is %s", e.Config, config.desc.Digest)
	}
	config.desc.MediaType = ocispec.MediaTypeImageConfig
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config.desc,
		Layers:    []ocispec.Descriptor{},
	}
	for _, name := range e.Layers {
		layer, ok := a.lookup(name)
		if !ok || layer.desc.Digest == "" {
			return ocispec.Descriptor{}, failf(errdefs.ErrNotFound, "layer %q is missing from the archive", name)
		}
		mediaType, err := s.layerMediaType(ctx, layer.desc)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %q: %w", name, err)
		}
		layer.desc.MediaType = mediaType
		m.Layers = append(m.Layers, layer.desc)
	}
	return s.writeManifest(ctx, m)
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
func (s *Store) publish(ctx context.Context, found []loadable, ready []*contents, report func(jsonstream.Message)) ([]Loaded, error) {
	var loaded []Loaded
	for i, l := range found {
		c := ready[i]
		name := l.name
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
		if l.name == "" {
			report(jsonstream.Message{Stream: "Loaded image ID: " + c.id() + "\n"})
		} else {
			report(jsonstream.Message{Stream: "Loaded image: " + familiar(name) + "\n"})
		}
		loaded = append(loaded, Loaded{Name: familiar(l.name), ID: c.id()})
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

func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return failf(errdefs.ErrInvalidArgument, "%w", err)
	}
	return nil
}
