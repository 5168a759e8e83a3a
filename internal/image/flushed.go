package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/portholehq/porthole/internal/image/flush"
)

// While a build puts off the flushes of the databases, a crash of the machine
// brings records back that were removed a moment before. What they are of must be
// there then, so nothing is removed from the disk before the disk has it that it
// is to go.

// flushedContent is a content store below the metadata database.
type flushedContent struct {
	content.Store
	flushes *flush.Group
}

// Delete removes a blob.
func (c flushedContent) Delete(ctx context.Context, d digest.Digest) error {
	if err := c.flushes.Flush(); err != nil {
		return err
	}
	return c.Store.Delete(ctx, d)
}

// WalkStatusRefs calls fn with the names of all writes under way, also of those
// that [content.Store.ListStatuses] cannot read.
func (c flushedContent) WalkStatusRefs(ctx context.Context, fn func(ref string) error) error {
	w, ok := c.Store.(interface {
		WalkStatusRefs(ctx context.Context, fn func(string) error) error
	})
	if !ok {
		return fmt.Errorf("content store %T does not walk its writes", c.Store)
	}
	return w.WalkStatusRefs(ctx, fn)
}

// flushedSnapshots is a snapshotter below the metadata database.
type flushedSnapshots struct {
	snapshots.Snapshotter
	flushes *flush.Group
}

// Remove takes a snapshot out of the snapshotter's own database.
func (s flushedSnapshots) Remove(ctx context.Context, key string) error {
	if err := s.flushes.Flush(); err != nil {
		return err
	}
	return s.Snapshotter.Remove(ctx, key)
}

// Cleanup removes the directories of snapshots that were removed.
func (s flushedSnapshots) Cleanup(ctx context.Context) error {
	cleaner, ok := s.Snapshotter.(snapshots.Cleaner)
	if !ok {
		return fmt.Errorf("snapshotter %T cannot clean up", s.Snapshotter)
	}
	if err := s.flushes.Flush(); err != nil {
		return err
	}
	return cleaner.Cleanup(ctx)
}

// openSnapshots opens the snapshotter in dir, with its database among those that
// are flushed together.
func (s *Store) openSnapshots(dir string) (snapshots.Snapshotter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	records, err := storage.NewMetaStore(filepath.Join(dir, "metadata.db"), func(o *bbolt.Options) error {
		o.InitialMmapSize = flush.Room
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The library keeps its database to itself, but for what a transaction tells.
	_, reading, err := records.TransactionContext(context.Background(), false)
	if err != nil {
		return nil, err
	}
	tx, ok := reading.(*bbolt.Tx)
	if !ok {
		return nil, errors.Join(fmt.Errorf("transaction of snapshots is a %T", reading), reading.Rollback(), records.Close())
	}
	db := tx.DB()
	err = reading.Rollback()
	if err == nil {
		err = s.flushes.Add(db)
	}
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	o, err := overlay.NewSnapshotter(dir, overlay.AsynchronousRemove, overlay.WithUpperdirLabel, overlay.WithMetaStore(records))
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	return o, nil
}
