package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
)

// builderImages is the image records as a builder gets them: it reads them as
// they are, but what it changes goes the store's way.
type builderImages struct {
	images.Store
	store *Store
}

// Create makes a record. A name that there is already is
// errdefs.ErrAlreadyExists.
func (b builderImages) Create(ctx context.Context, image images.Image) (images.Image, error) {
	ctx = b.store.in(ctx)
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	var created images.Image
	err := b.store.transactLater(ctx, func(ctx context.Context) (err error) {
		if created, err = b.Store.Create(ctx, image); err != nil || isDangling(image.Name) {
			return err
		}
		err = b.Store.Delete(ctx, danglingName(image.Target.Digest))
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
	return created, err
}

// Update changes a record. An image that loses its last name by that stays
// without one.
func (b builderImages) Update(ctx context.Context, image images.Image, fields ...string) (images.Image, error) {
	ctx = b.store.in(ctx)
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	var updated images.Image
	err := b.store.transactLater(ctx, func(ctx context.Context) error {
		old, err := b.Store.Get(ctx, image.Name)
		if err != nil {
			return err
		}
		if updated, err = b.Store.Update(ctx, image, fields...); err != nil {
			return err
		}
		if updated.Target.Digest == old.Target.Digest {
			return nil
		}
		return b.store.keepNameless(ctx, old.Target)
	})
	return updated, err
}

// Delete removes a record. Containers keep the layers that they need.
func (b builderImages) Delete(ctx context.Context, name string, _ ...images.DeleteOpt) error {
	ctx = b.store.in(ctx)
	record, err := b.Store.Get(ctx, name)
	if err != nil {
		return err
	}
	// The store has to know the layers of an image to keep them.
	if _, err := b.store.contents(ctx, record.Target); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete image %q: %w", name, err)
	}
	return b.store.deleteRecords(ctx, []images.Image{record})
}
