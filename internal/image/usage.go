package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// DiskUsage is what the store occupies, in bytes. Writable layers are not in
// it, see [Store.RootFSDir].
type DiskUsage struct {
	Layers  int64 // unpacked layers, each once
	Content int64 // blobs, each once
}

// DiskUsage sums up the store without reading the files.
func (s *Store) DiskUsage(ctx context.Context) (DiskUsage, error) {
	ctx = s.in(ctx)
	var u DiskUsage
	err := s.snapshot.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			return nil
		}
		n, err := s.layerSize(ctx, info)
		if errdefs.IsNotFound(err) { // it went meanwhile
			return nil
		}
		u.Layers += n
		return err
	})
	if err != nil {
		return u, fmt.Errorf("size of layers: %w", err)
	}
	err = s.content.Walk(ctx, func(info content.Info) error {
		u.Content += info.Size
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("size of blobs: %w", err)
	}
	return u, nil
}
