package image

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/document"
)

// Image is an image as a container needs it. It stays valid as a value when
// the image is removed; [Store.CreateRootFS] then says so.
type Image struct {
	// ID is the digest of the configuration, "sha256:…".
	ID string
	// Name is the familiar name that it was found by ("busybox:latest"), or
	// one of its names when it was found by ID; empty when it has none.
	Name string
	// Config is the whole configuration document.
	Config dockerspec.DockerOCIImage
	// Platform is what the image runs on.
	Platform ocispec.Platform
	// Manifest describes the manifest of this platform.
	Manifest ocispec.Descriptor
	// Target is what the name stands for: Manifest, or an index around it.
	Target ocispec.Descriptor

	snapshot string // topmost layer; empty when there is none
}

// contents is what a target is made of, for the platform of the store.
type contents struct {
	target   ocispec.Descriptor
	manifest ocispec.Descriptor
	layers   []ocispec.Descriptor
	config   ocispec.Descriptor
	image    dockerspec.DockerOCIImage
	platform ocispec.Platform
	chain    []digest.Digest // chain ID of each layer
	snapshot string
}

// Resolve finds an image by name, name:tag, name@digest, ID or the beginning
// of an ID. Names go before IDs. The error is errdefs.ErrNotFound with
// Docker's words when there is none, errdefs.ErrInvalidArgument when ref
// cannot name an image or names several.
func (s *Store) Resolve(ctx context.Context, ref string) (Image, error) {
	ctx = s.in(ctx)
	record, err := s.find(ctx, ref)
	if err != nil {
		return Image{}, err
	}
	c, err := s.contents(ctx, record.Target)
	if err != nil {
		return Image{}, fmt.Errorf("image %q: %w", ref, err)
	}
	return c.asImage(familiar(record.Name)), nil
}

// ResolvePlatform is [Store.Resolve] for a caller that wants a certain
// platform: another one is errdefs.ErrNotFound. The zero platform accepts all.
func (s *Store) ResolvePlatform(ctx context.Context, ref string, want ocispec.Platform) (Image, error) {
	img, err := s.Resolve(ctx, ref)
	if err != nil || (want.OS == "" && want.Architecture == "") {
		return img, err
	}
	if !platforms.NewMatcher(platforms.Normalize(want)).Match(img.Platform) {
		return Image{}, failf(errdefs.ErrNotFound,
			"image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			ref, platforms.Format(img.Platform), platforms.Format(want))
	}
	return img, nil
}

// PlatformWarning tells, in Docker's words, that the image is for another
// machine than this store's; it is empty when the image fits.
func (s *Store) PlatformWarning(img Image) string {
	if s.matcher.Match(img.Platform) {
		return ""
	}
	return fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
		platforms.Format(img.Platform), platforms.Format(s.platform))
}

func (c *contents) id() string { return c.config.Digest.String() }

func (c *contents) asImage(name string) Image {
	return Image{
		ID:       c.id(),
		Name:     name,
		Config:   c.image,
		Platform: c.platform,
		Manifest: c.manifest,
		Target:   c.target,
		snapshot: c.snapshot,
	}
}

// find looks up the record that ref means. For an ID it prefers a record with
// a name.
func (s *Store) find(ctx context.Context, ref string) (images.Image, error) {
	record, err := s.findNamed(ctx, ref)
	states := s.states.Load()
	if states == nil || !strings.HasPrefix(ref, stateScheme) || !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
		return record, err
	}
	id, ok, stateErr := (*states)(ctx, ref)
	switch {
	case !ok:
		return record, err
	case stateErr != nil:
		return images.Image{}, stateErr
	}
	return s.findID(ctx, id)
}

// stateScheme begins the names of states of builds.
const stateScheme = "step:"

// UseStates makes the store ask make for images that it has not, and whose name
// begins with "step:": for a state of a build it returns the ID of an image that
// it has made. ok is false when ref cannot be the name of a state. UseStates may
// be called while the store is used.
func (s *Store) UseStates(make func(ctx context.Context, ref string) (imageID string, ok bool, err error)) {
	s.states.Store(&make)
}

// stateTag is what nobody would call an image in a registry: the ID of a state,
// in the length that people see at least.
var stateTag = regexp.MustCompile(`^step:[0-9a-f]{12,64}(-before)?$`)

// noState says why a state of a build cannot be had, if ref names one. Clients
// pull what they did not find, and would be told of a registry only.
func (s *Store) noState(ctx context.Context, ref reference.Named) error {
	name := reference.FamiliarString(ref)
	states := s.states.Load()
	if states == nil || !stateTag.MatchString(name) {
		return nil
	}
	_, _, err := (*states)(ctx, name)
	return err
}

func (s *Store) findNamed(ctx context.Context, ref string) (images.Image, error) {
	if ref == "" {
		return images.Image{}, failf(errdefs.ErrInvalidArgument, "invalid reference format")
	}
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		if hexID.MatchString(ref) {
			return s.findID(ctx, ref)
		}
		return images.Image{}, failf(errdefs.ErrInvalidArgument, "%s", err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return s.findID(ctx, ref)
	}
	if canonical, ok := named.(reference.Canonical); ok {
		return s.findDigest(ctx, canonical)
	}
	record, err := s.images.Get(ctx, reference.TagNameOnly(named).String())
	switch {
	case err == nil:
		return record, nil
	case !errdefs.IsNotFound(err):
		return images.Image{}, fmt.Errorf("look up image %q: %w", ref, err)
	case hexID.MatchString(ref):
		return s.findID(ctx, ref)
	default:
		return images.Image{}, notFound(ref)
	}
}

// findDigest finds the record of a repository whose target, or manifest for
// this platform, has the digest.
func (s *Store) findDigest(ctx context.Context, ref reference.Canonical) (images.Image, error) {
	records, err := s.images.List(ctx)
	if err != nil {
		return images.Image{}, fmt.Errorf("list images: %w", err)
	}
	for _, r := range records {
		if isDangling(r.Name) {
			continue
		}
		named, err := reference.ParseNormalizedNamed(r.Name)
		if err != nil || named.Name() != ref.Name() {
			continue
		}
		if r.Target.Digest == ref.Digest() {
			return r, nil
		}
		if c, err := s.contents(ctx, r.Target); err == nil && c.manifest.Digest == ref.Digest() {
			return r, nil
		}
	}
	return images.Image{}, notFound(ref.String())
}

// findID finds a record by the digits of its ID. Whole digests of targets and
// manifests are taken for IDs too, as clients of engines with a containerd
// store send them.
func (s *Store) findID(ctx context.Context, ref string) (images.Image, error) {
	digits := strings.TrimPrefix(ref, "sha256:")
	records, err := s.images.List(ctx)
	if err != nil {
		return images.Image{}, fmt.Errorf("list images: %w", err)
	}
	// With a name first, and always the same one.
	sort.Slice(records, func(i, j int) bool {
		if di, dj := isDangling(records[i].Name), isDangling(records[j].Name); di != dj {
			return dj
		}
		return records[i].Name < records[j].Name
	})
	found := map[string]images.Image{}
	list, _ := s.contentsOf(ctx, records)
	for i, r := range records {
		c := list[i]
		if c == nil {
			continue // broken images are reported where they are listed
		}
		whole := len(digits) == 64 && (r.Target.Digest.Encoded() == digits || c.manifest.Digest.Encoded() == digits)
		if !whole && !strings.HasPrefix(c.config.Digest.Encoded(), digits) {
			continue
		}
		if _, ok := found[c.id()]; !ok {
			found[c.id()] = r
		}
	}
	switch len(found) {
	case 0:
		return images.Image{}, notFound(ref)
	case 1:
		for _, r := range found {
			return r, nil
		}
	}
	return images.Image{}, failf(errdefs.ErrInvalidArgument, "ambiguous reference: the IDs of %d images begin with %q", len(found), ref)
}

// contents reads what target is made of. Unreadable or incomplete content is
// an error and not remembered.
func (s *Store) contents(ctx context.Context, target ocispec.Descriptor) (*contents, error) {
	list, errs := s.contentsOf(ctx, []images.Image{{Target: target}})
	return list[0], errs[0]
}

// contentsOf is [Store.contents] for the targets of many records, in their order:
// of each either the contents or the error is nil. The records of the store are
// read once for all that was not known, and not once for each.
func (s *Store) contentsOf(ctx context.Context, records []images.Image) ([]*contents, []error) {
	list, errs := make([]*contents, len(records)), make([]error, len(records))
	s.mu.Lock()
	for i, r := range records {
		list[i] = s.resolved[r.Target.Digest]
	}
	s.mu.Unlock()
	read := map[digest.Digest]*contents{}
	for i, r := range records {
		if list[i] != nil {
			continue
		}
		if c := read[r.Target.Digest]; c != nil {
			list[i] = c
			continue
		}
		if list[i], errs[i] = s.readContents(ctx, r.Target); errs[i] == nil {
			read[r.Target.Digest] = list[i]
		}
	}
	if err := s.rememberRead(ctx, read); err != nil {
		for i, r := range records {
			if read[r.Target.Digest] != nil {
				list[i], errs[i] = nil, err
			}
		}
	}
	return list, errs
}

// rememberRead keeps contents that were read, by their targets.
func (s *Store) rememberRead(ctx context.Context, read map[digest.Digest]*contents) error {
	if len(read) == 0 {
		return nil
	}
	var filters []string
	if len(read) == 1 {
		for target := range read {
			filters = append(filters, fmt.Sprintf("target.digest==%s", target))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// An image that went meanwhile must not be remembered: acquire goes by
	// what is remembered.
	records, err := s.images.List(ctx, filters...)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, r := range records {
		if c := read[r.Target.Digest]; c != nil {
			s.resolved[r.Target.Digest] = c
		}
	}
	return nil
}

func (s *Store) readContents(ctx context.Context, target ocispec.Descriptor) (*contents, error) {
	manifests, err := s.manifests(ctx, target)
	if err != nil {
		return nil, err
	}
	m, err := s.choose(manifests, nil)
	if err != nil {
		if len(manifests) != 1 {
			return nil, err
		}
		m = manifests[0] // for another machine, which shows when it is run
	}
	return s.completeContents(ctx, target, m)
}

// platformManifest is one image manifest found under a target.
type platformManifest struct {
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	image    dockerspec.DockerOCIImage
	platform ocispec.Platform
}

// manifests returns the image manifests under target that are present with
// their configurations, in the order of the index. Attestations are no images.
func (s *Store) manifests(ctx context.Context, target ocispec.Descriptor) ([]platformManifest, error) {
	w := manifestWalk{store: s}
	if err := w.visit(ctx, target, nil); err != nil {
		return nil, err
	}
	if len(w.found) == 0 {
		return nil, failf(errdefs.ErrInvalidArgument, "%s has no image manifest", target.Digest)
	}
	return w.found, nil
}

const (
	// maxIndexDepth and maxIndexNodes bound the walk through an index; real
	// ones have two levels and some ten entries.
	maxIndexDepth = 8
	maxIndexNodes = 4096
)

type manifestWalk struct {
	store *Store
	found []platformManifest
	nodes int
}

func (w *manifestWalk) visit(ctx context.Context, desc ocispec.Descriptor, path []digest.Digest) error {
	if slices.Contains(path, desc.Digest) {
		return failf(errdefs.ErrInvalidArgument, "index %s contains itself", desc.Digest)
	}
	if w.nodes++; w.nodes > maxIndexNodes || len(path) > maxIndexDepth {
		return failf(errdefs.ErrInvalidArgument, "index %s is nested too deep or too large", desc.Digest)
	}
	data, err := w.store.readJSON(ctx, desc)
	if err != nil {
		return err
	}
	kind, err := document.TypeOf(desc.MediaType, data)
	if err != nil && len(path) > 0 {
		return nil // an index may list what is no image
	}
	if err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	desc.MediaType = document.MediaType(desc.MediaType, kind)
	if kind == document.Manifest {
		return w.manifest(ctx, desc, data, len(path) == 0)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return failf(errdefs.ErrInvalidArgument, "read index %s: %w", desc.Digest, err)
	}
	for _, child := range index.Manifests {
		if document.IsAttestation(child) {
			continue
		}
		err := w.visit(ctx, child, append(path[:len(path):len(path)], desc.Digest))
		// Archives made for one platform keep the index of all.
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *manifestWalk) manifest(ctx context.Context, desc ocispec.Descriptor, data []byte, top bool) error {
	m := platformManifest{desc: desc}
	if err := json.Unmarshal(data, &m.manifest); err != nil {
		return failf(errdefs.ErrInvalidArgument, "read manifest %s: %w", desc.Digest, err)
	}
	if !images.IsConfigType(m.manifest.Config.MediaType) {
		if top {
			return failf(errdefs.ErrInvalidArgument, "%s is no container image (its configuration is %q)",
				desc.Digest, m.manifest.Config.MediaType)
		}
		return nil
	}
	config, err := w.store.readJSON(ctx, m.manifest.Config)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(config, &m.image); err != nil {
		return failf(errdefs.ErrInvalidArgument, "read image configuration %s: %w", m.manifest.Config.Digest, err)
	}
	if n, want := len(m.image.RootFS.DiffIDs), len(m.manifest.Layers); n != want {
		return failf(errdefs.ErrInvalidArgument, "manifest %s has %d layers, its configuration %d", desc.Digest, want, n)
	}
	m.platform = platforms.Normalize(ocispec.Platform{
		OS:           m.image.OS,
		OSVersion:    m.image.OSVersion,
		Architecture: m.image.Architecture,
		Variant:      m.image.Variant,
	})
	// Old images say nothing; they were made for Linux on this machine.
	if m.platform.OS == "" {
		m.platform.OS = w.store.platform.OS
	}
	if m.platform.Architecture == "" {
		m.platform.Architecture = w.store.platform.Architecture
		m.platform.Variant = w.store.platform.Variant
	}
	w.found = append(w.found, m)
	return nil
}

// choose picks the manifest that suits this machine best, or one of the wanted
// platforms when there are any.
func (s *Store) choose(found []platformManifest, wanted []ocispec.Platform) (platformManifest, error) {
	matcher := s.matcher
	names := platforms.Format(s.platform)
	if len(wanted) > 0 {
		matcher = platforms.Any(wanted...)
		names = formatPlatforms(wanted)
	}
	best := -1
	for i, m := range found {
		if matcher.Match(m.platform) && (best < 0 || matcher.Less(m.platform, found[best].platform)) {
			best = i
		}
	}
	if best >= 0 {
		return found[best], nil
	}
	var has []ocispec.Platform
	for _, m := range found {
		has = append(has, m.platform)
	}
	return platformManifest{}, failf(errdefs.ErrNotFound, "no image for platform %s (there are %s)", names, formatPlatforms(has))
}

func formatPlatforms(list []ocispec.Platform) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = platforms.Format(p)
	}
	return strings.Join(names, ", ")
}

// completeContents adds what the store itself knows: the snapshot of the
// topmost layer.
func (s *Store) completeContents(ctx context.Context, target ocispec.Descriptor, m platformManifest) (*contents, error) {
	c := &contents{
		target:   target,
		manifest: m.desc,
		layers:   m.manifest.Layers,
		config:   m.manifest.Config,
		image:    m.image,
		platform: m.platform,
		chain:    identity.ChainIDs(slices.Clone(m.image.RootFS.DiffIDs)),
	}
	info, err := s.content.Info(ctx, c.config.Digest)
	if err != nil {
		return nil, fmt.Errorf("image configuration %s: %w", c.config.Digest, err)
	}
	c.snapshot = info.Labels[labelSnapshot]
	return c, nil
}

// readJSON reads a small document; a missing one is errdefs.ErrNotFound.
func (s *Store) readJSON(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, failf(errdefs.ErrInvalidArgument, "digest %q: %w", desc.Digest, err)
	}
	info, err := s.content.Info(ctx, desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if info.Size > s.limits.JSON {
		return nil, failf(errdefs.ErrInvalidArgument, "document %s has %d bytes, more than %d", desc.Digest, info.Size, s.limits.JSON)
	}
	if desc.Size != 0 && desc.Size != info.Size {
		return nil, failf(errdefs.ErrInvalidArgument, "blob %s has %d bytes, its descriptor says %d", desc.Digest, info.Size, desc.Size)
	}
	data, err := content.ReadBlob(ctx, s.content, ocispec.Descriptor{Digest: desc.Digest, Size: info.Size})
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	return data, nil
}

// children returns what an index or manifest refers to, whatever media types
// are claimed.
func (s *Store) children(ctx context.Context, desc ocispec.Descriptor) (document.Type, []ocispec.Descriptor, error) {
	data, err := s.readJSON(ctx, desc)
	if err != nil {
		return 0, nil, err
	}
	kind, err := document.TypeOf(desc.MediaType, data)
	if err != nil {
		return document.Manifest, nil, nil //nolint:nilerr // no image, so nothing that it needs
	}
	var parts struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := document.Unmarshal(data, &parts); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if kind == document.Index {
		return kind, parts.Manifests, nil
	}
	list := append([]ocispec.Descriptor{parts.Config}, parts.Layers...)
	return kind, slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == "" }), nil
}
