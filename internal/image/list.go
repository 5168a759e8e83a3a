package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/moment"
)

// Filters are Docker's filters: values by key. Values of one key are
// alternatives (all labels must match), keys add up.
type Filters map[string][]string

// ListOptions are the options of [Store.List].
type ListOptions struct {
	// All adds the states after single instructions of builds.
	All     bool
	Filters Filters
	// SharedSize asks for the size of the layers that an image shares.
	SharedSize bool
	// Manifests adds the descriptor of each image's target and its manifests.
	Manifests bool
	// Used tells which containers use an image; nil means not known.
	Used func(imageID string) []Use
}

// List returns the images that pass the filters, newest first.
func (s *Store) List(ctx context.Context, opts ListOptions) ([]image.Summary, error) {
	ctx = s.in(ctx)
	entries, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	keep, err := s.filter(ctx, opts.Filters)
	if err != nil {
		return nil, err
	}
	sizes := s.measure()
	shared := sharing(ctx, sizes, entries, opts.SharedSize)
	list := []image.Summary{}
	for _, e := range entries {
		if !opts.All && e.isStep() {
			continue
		}
		names, digests, ok := keep.match(e)
		if !ok {
			continue
		}
		sum, err := s.summary(ctx, sizes, e, names, digests, opts)
		if errdefs.IsNotFound(err) && s.isGone(ctx, e) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if opts.SharedSize {
			sum.SharedSize = shared(e)
		}
		list = append(list, sum)
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].Created != list[j].Created {
			return list[i].Created > list[j].Created
		}
		return list[i].ID < list[j].ID
	})
	return list, nil
}

// Empty tells that the store has no image, readable or not. It reads none of them,
// which [Store.List] does.
func (s *Store) Empty(ctx context.Context) (bool, error) {
	records, err := s.images.List(s.in(ctx))
	if err != nil {
		return false, fmt.Errorf("list images: %w", err)
	}
	return len(records) == 0, nil
}

// isGone tells that an image has been removed since it was listed.
func (s *Store) isGone(ctx context.Context, e *entry) bool {
	return !slices.ContainsFunc(e.records, func(r images.Image) bool {
		now, err := s.images.Get(ctx, r.Name)
		return !errdefs.IsNotFound(err) && (err != nil || now.Target.Digest == r.Target.Digest)
	})
}

func (s *Store) summary(ctx context.Context, sizes sizer, e *entry, names, digests []string, opts ListOptions) (image.Summary, error) {
	c := e.contents
	size, err := sizes.image(ctx, c)
	if errdefs.IsNotFound(err) && !s.isGone(ctx, e) {
		// One that has lost its layers must not hide the others.
		s.logger.Warn("an image has lost its layers; remove it, and load or pull it again", "image", c.id(), "err", err)
		size, err = 0, nil
	}
	if err != nil {
		return image.Summary{}, err
	}
	sum := image.Summary{
		ID:          c.id(),
		Created:     created(c).Unix(),
		Labels:      c.image.Config.Labels,
		RepoTags:    names,
		RepoDigests: digests,
		Size:        size,
		SharedSize:  -1,
		Containers:  -1,
	}
	var uses []Use
	if opts.Used != nil {
		uses = opts.Used(sum.ID)
		sum.Containers = int64(len(uses))
	}
	if opts.Manifests {
		target := c.target
		sum.Descriptor = &target
		if sum.Manifests, err = s.manifestSummaries(ctx, sizes, c, uses); err != nil {
			return image.Summary{}, err
		}
	}
	return sum, nil
}

// manifestSummaries tells of each platform of an image that is here.
func (s *Store) manifestSummaries(ctx context.Context, sizes sizer, c *contents, uses []Use) ([]image.ManifestSummary, error) {
	manifests, err := s.manifests(ctx, c.target)
	if err != nil {
		return nil, err
	}
	list := []image.ManifestSummary{}
	for _, m := range manifests {
		sum := image.ManifestSummary{
			ID: m.desc.Digest.String(), Descriptor: m.desc, Available: true, Kind: image.ManifestKindImage,
			ImageData: &image.ImageProperties{Platform: m.platform, Containers: []string{}},
		}
		for _, blob := range append([]ocispec.Descriptor{m.desc, m.manifest.Config}, m.manifest.Layers...) {
			info, err := s.content.Info(ctx, blob.Digest)
			if errdefs.IsNotFound(err) {
				sum.Available = false
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("blob %s: %w", blob.Digest, err)
			}
			sum.Size.Content += info.Size
		}
		if m.desc.Digest == c.manifest.Digest {
			for _, u := range uses {
				sum.ImageData.Containers = append(sum.ImageData.Containers, u.ID)
			}
			if c.snapshot != "" {
				if sum.ImageData.Size.Unpacked, err = sizes.chain(ctx, c.snapshot); err != nil {
					return nil, err
				}
			}
		}
		sum.Size.Total = sum.Size.Content + sum.ImageData.Size.Unpacked
		list = append(list, sum)
	}
	return list, nil
}

// created is when an image was made; 1970 when it does not say.
func created(c *contents) time.Time {
	if c.image.Created == nil {
		return time.Unix(0, 0).UTC()
	}
	return *c.image.Created
}

// image is what the layers of an image hold. Images that are not unpacked have
// the size of their blobs.
func (z sizer) image(ctx context.Context, c *contents) (int64, error) {
	if c.snapshot != "" {
		return z.chain(ctx, c.snapshot)
	}
	var sum int64
	for _, l := range c.layers {
		sum += l.Size
	}
	return sum, nil
}

// sharing returns a function that tells how much of an image is in layers that
// other images have too.
func sharing(ctx context.Context, sizes sizer, entries map[string]*entry, wanted bool) func(*entry) int64 {
	if !wanted {
		return nil
	}
	users := map[string]int{}
	for _, e := range entries {
		for _, chain := range e.contents.chain {
			users[chain.String()]++
		}
	}
	return func(e *entry) int64 {
		layers, err := sizes.layers(ctx, e.contents.snapshot)
		if err != nil {
			return -1
		}
		var sum int64
		for i, chain := range e.contents.chain {
			if i < len(layers) && users[chain.String()] > 1 {
				sum += layers[i]
			}
		}
		return sum
	}
}

// imageFilter is a parsed set of filters.
type imageFilter struct {
	ids       []string // nil: any
	dangling  *bool
	labels    []string
	notLabels []string
	patterns  []string
	before    time.Time // zero: any; likewise below
	since     time.Time
	until     time.Time
}

var filterKeys = []string{"before", "dangling", "id", "label", "label!", "reference", "since", "until"}

// filter parses filters with Docker's errors.
func (s *Store) filter(ctx context.Context, filters Filters) (*imageFilter, error) {
	f := &imageFilter{
		ids:       filters["id"],
		labels:    filters["label"],
		notLabels: filters["label!"],
		patterns:  filters["reference"],
	}
	for key := range filters {
		if !slices.Contains(filterKeys, key) {
			return nil, failf(errdefs.ErrInvalidArgument, "invalid filter '%s'", key)
		}
	}
	for _, p := range f.patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, failf(errdefs.ErrInvalidArgument, "invalid filter 'reference=%s'", p)
		}
	}
	if err := f.setDangling(filters["dangling"]); err != nil {
		return nil, err
	}
	if err := f.setUntil(filters["until"]); err != nil {
		return nil, err
	}
	for _, ref := range filters["before"] {
		at, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if f.before.IsZero() || at.Before(f.before) {
			f.before = at
		}
	}
	for _, ref := range filters["since"] {
		at, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if at.After(f.since) {
			f.since = at
		}
	}
	return f, nil
}

func (s *Store) createdAt(ctx context.Context, ref string) (time.Time, error) {
	record, err := s.find(ctx, ref)
	if err != nil {
		return time.Time{}, err
	}
	c, err := s.contents(ctx, record.Target)
	if err != nil {
		return time.Time{}, err
	}
	return created(c), nil
}

func (f *imageFilter) setDangling(values []string) error {
	for _, v := range values {
		var want bool
		switch v {
		case "1", "true":
			want = true
		case "0", "false":
		default:
			return failf(errdefs.ErrInvalidArgument, "invalid filter 'dangling=[%s]'", v)
		}
		if f.dangling != nil && *f.dangling != want {
			return failf(errdefs.ErrInvalidArgument, "invalid filter 'dangling=%v'", values)
		}
		f.dangling = &want
	}
	return nil
}

func (f *imageFilter) setUntil(values []string) error {
	for _, v := range values {
		at, err := moment.Parse(v, time.Now())
		if err != nil {
			return failf(errdefs.ErrInvalidArgument, "%w", err)
		}
		if f.until.IsZero() || at.Before(f.until) {
			f.until = at
		}
	}
	return nil
}

// match tells whether an image passes, and with which of its names.
func (f *imageFilter) match(e *entry) (names, digests []string, ok bool) {
	names, digests = e.names(), e.digests()
	if !f.matchTimes(created(e.contents)) || !f.matchLabels(e.contents.image.Config.Labels) || !f.matchID(e.contents.id()) {
		return nil, nil, false
	}
	if f.dangling != nil && *f.dangling != (len(names) == 0) {
		return nil, nil, false
	}
	if len(f.patterns) == 0 {
		return names, digests, true
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !f.matchName(n) })
	digests = slices.DeleteFunc(digests, func(n string) bool { return !f.matchName(n) })
	return names, digests, len(names)+len(digests) > 0
}

func (f *imageFilter) matchTimes(at time.Time) bool {
	return (f.before.IsZero() || at.Before(f.before)) &&
		(f.since.IsZero() || at.After(f.since)) &&
		(f.until.IsZero() || at.Before(f.until))
}

func (f *imageFilter) matchID(id string) bool {
	if len(f.ids) == 0 {
		return true
	}
	return slices.ContainsFunc(f.ids, func(want string) bool {
		return strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), strings.TrimPrefix(want, "sha256:"))
	})
}

func (f *imageFilter) matchLabels(labels map[string]string) bool {
	for _, want := range f.labels {
		if !hasLabel(labels, want) {
			return false
		}
	}
	for _, not := range f.notLabels {
		if hasLabel(labels, not) {
			return false
		}
	}
	return true
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, valued := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!valued || got == value)
}

func (f *imageFilter) matchName(name string) bool {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(f.patterns, func(p string) bool {
		ok, err := reference.FamiliarMatch(p, named)
		return err == nil && ok
	})
}
