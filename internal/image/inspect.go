package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/name"
)

// Inspect tells all about the image that ref names, see [Store.Resolve].
func (s *Store) Inspect(ctx context.Context, ref string) (image.InspectResponse, error) {
	ctx = s.in(ctx)
	e, record, err := s.entryOf(ctx, ref)
	if err != nil {
		return image.InspectResponse{}, err
	}
	c := e.contents
	size, err := s.measure().image(ctx, c)
	if err != nil {
		return image.InspectResponse{}, err
	}
	target := c.target
	config := c.image.Config
	r := image.InspectResponse{
		ID:           c.id(),
		RepoTags:     e.names(),
		RepoDigests:  e.digests(),
		Comment:      comment(c),
		Author:       c.image.Author,
		Config:       &config,
		Architecture: c.platform.Architecture,
		Variant:      c.platform.Variant,
		Os:           c.platform.OS,
		OsVersion:    c.platform.OSVersion,
		Size:         size,
		RootFS:       image.RootFS{Type: "layers"},
		Metadata:     image.Metadata{LastTagTime: record},
		Descriptor:   &target,
	}
	if c.image.Created != nil {
		r.Created = c.image.Created.Format(time.RFC3339Nano)
	}
	for _, d := range c.image.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, d.String())
	}
	r.GraphDriver, err = s.graphDriver(ctx, c)
	return r, err
}

// graphDriver shows where the layers of an image are, as Docker's overlay2
// driver does.
func (s *Store) graphDriver(ctx context.Context, c *contents) (*storage.DriverData, error) {
	data := &storage.DriverData{Name: "overlayfs", Data: map[string]string{}}
	if c.snapshot == "" {
		return data, nil
	}
	s.mu.Lock()
	dirs, err := s.lowerDirs(ctx, c.snapshot)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	data.Data["UpperDir"] = dirs[0]
	if len(dirs) > 1 {
		data.Data["LowerDir"] = strings.Join(dirs[1:], ":")
	}
	return data, nil
}

// comment is the comment of the last step, where Docker keeps an image's.
func comment(c *contents) string {
	if n := len(c.image.History); n > 0 {
		return c.image.History[n-1].Comment
	}
	return ""
}

// entryOf finds an image with all its names, and when the record that ref
// means was set last.
func (s *Store) entryOf(ctx context.Context, ref string) (*entry, time.Time, error) {
	record, err := s.find(ctx, ref)
	if err != nil {
		return nil, time.Time{}, err
	}
	c, err := s.contents(ctx, record.Target)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("image %q: %w", ref, err)
	}
	entries, err := s.catalog(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	e := entries[c.id()]
	if e == nil { // removed between the two looks
		return nil, time.Time{}, notFound(ref)
	}
	return e, record.UpdatedAt, nil
}

// History tells the steps by which an image was made, newest first. Only the
// last one has an ID, the image's: those before are not images.
func (s *Store) History(ctx context.Context, ref string) ([]image.HistoryResponseItem, error) {
	ctx = s.in(ctx)
	e, _, err := s.entryOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	c := e.contents
	sizes, err := s.layerSizes(ctx, c.snapshot)
	if err != nil {
		return nil, err
	}
	steps := c.image.History
	if len(steps) == 0 { // images without history have their layers
		steps = make([]ocispec.History, len(c.layers))
	}
	items := make([]image.HistoryResponseItem, len(steps))
	layer := 0
	for i, h := range steps {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer {
			if layer >= len(c.layers) {
				return nil, failf(errdefs.ErrInvalidArgument, "image %q: history has more steps with layers than there are layers", ref)
			}
			if layer < len(sizes) {
				item.Size = sizes[layer]
			}
			layer++
		}
		items[len(steps)-1-i] = item
	}
	if len(items) > 0 {
		items[0].ID = c.id()
		items[0].Tags = e.names()
	}
	return items, nil
}

// Tag gives the image that src names another name. A name that stood for
// another image is taken from it.
func (s *Store) Tag(ctx context.Context, src, dst string) error {
	ctx = s.in(ctx)
	name, err := name.ParseTag(dst)
	if err != nil {
		return err
	}
	record, err := s.find(ctx, src)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transact(ctx, func(ctx context.Context) error {
		// Between look-up and naming the image may have gone.
		now, err := s.images.Get(ctx, record.Name)
		if errdefs.IsNotFound(err) || err == nil && now.Target.Digest != record.Target.Digest {
			return notFound(src)
		}
		if err != nil {
			return fmt.Errorf("look up image %q: %w", src, err)
		}
		_, err = s.setNameIn(ctx, name.String(), record.Target)
		return err
	})
}
