package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/layers"
)

// Layer is one layer of an image, with the step that made it.
type Layer struct {
	layers.Usage
	DiffID    digest.Digest
	CreatedBy string
	Created   time.Time
}

// Layering is what the layers of an image are made of.
type Layering struct {
	ID     string
	Layers []Layer         // lowest first
	Hidden []layers.Hidden // largest first
}

// Blame is what the layers of an image did to a path.
type Blame struct {
	ID      string
	Path    string         // with symbolic links followed, but for one at its end
	Layers  []Layer        // all of the image, lowest first, without what is in them
	Touches []layers.Touch // latest first; never empty
}

// MeasureLayers tells what each layer of an image has, and the largest files, at
// most so many, which are in one of them but hidden by another.
func (s *Store) MeasureLayers(ctx context.Context, ref string, hidden int) (Layering, error) {
	var l Layering
	err := s.withLayers(ctx, ref, func(ctx context.Context, img Image, stack layers.Stack) error {
		each, worst, err := stack.Measure(ctx, hidden)
		if err != nil {
			return fmt.Errorf("image %s: %w", shortID(img.ID), err)
		}
		l = Layering{ID: img.ID, Layers: describeLayers(img), Hidden: worst}
		for n := range l.Layers {
			l.Layers[n].Usage = each[n]
		}
		return nil
	})
	return l, err
}

// BlameLayers tells which layers of an image had to do with a path, see
// [layers.Stack.Blame]. The error is errdefs.ErrNotFound also if none had.
func (s *Store) BlameLayers(ctx context.Context, ref, path string) (Blame, error) {
	var b Blame
	err := s.withLayers(ctx, ref, func(_ context.Context, img Image, stack layers.Stack) error {
		real, touches, err := stack.Blame(path)
		if err != nil {
			return failf(errdefs.ErrInvalidArgument, "image %s: %v", shortID(img.ID), err)
		}
		if len(touches) == 0 {
			return failf(errdefs.ErrNotFound, "no layer of image %s has %s", shortID(img.ID), real)
		}
		b = Blame{ID: img.ID, Path: real, Layers: describeLayers(img), Touches: touches}
		return nil
	})
	return b, err
}

// withLayers opens the layers of an image, which stay until fn returns.
func (s *Store) withLayers(ctx context.Context, ref string, fn func(context.Context, Image, layers.Stack) error) error {
	ctx = s.in(ctx)
	img, err := s.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	if len(img.Config.RootFS.DiffIDs) == 0 {
		return fn(ctx, img, nil)
	}
	if img.snapshot == "" {
		return failf(errdefs.ErrFailedPrecondition, "image %s is not unpacked", shortID(img.ID))
	}
	dirs, err := s.acquire(ctx, img)
	if err != nil {
		return err
	}
	defer s.release(ctx, img.snapshot)
	dirs = slices.Clone(dirs)
	slices.Reverse(dirs)
	stack, err := layers.Open(dirs)
	if err != nil {
		return fmt.Errorf("image %s: %w", shortID(img.ID), err)
	}
	defer stack.Close()
	if len(stack) != len(img.Config.RootFS.DiffIDs) {
		return fmt.Errorf("image %s: it has %d layers, its configuration tells of %d", shortID(img.ID), len(stack), len(img.Config.RootFS.DiffIDs))
	}
	return fn(ctx, img, stack)
}

func describeLayers(img Image) []Layer {
	list := make([]Layer, len(img.Config.RootFS.DiffIDs))
	for n, d := range img.Config.RootFS.DiffIDs {
		list[n].DiffID = d
	}
	steps := slices.DeleteFunc(slices.Clone(img.Config.History), func(h ocispec.History) bool { return h.EmptyLayer })
	if len(steps) != len(list) {
		return list // nobody knows which is whose
	}
	for n, h := range steps {
		list[n].CreatedBy = h.CreatedBy
		if h.Created != nil {
			list[n].Created = *h.Created
		}
	}
	return list
}
