package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
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
	ingest  string           // the directory of what is being written
	left    func(dir string) // is told of one in there that is not needed any more, and could not be removed
	failed  func()           // is told that a blob could not be removed
}

// Writer begins or goes on with a blob.
func (c flushedContent) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	w, err := c.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return ingestWriter{w, c.ingestDir(o.Ref), c.left}, nil
}

// ingestDir is where the content store has what is written under a name.
func (c flushedContent) ingestDir(ref string) string {
	return filepath.Join(c.ingest, digest.FromString(ref).Encoded())
}

// Abort removes what was written under a name.
func (c flushedContent) Abort(ctx context.Context, ref string) error {
	err := c.Store.Abort(ctx, ref)
	if err != nil && !errdefs.IsNotFound(err) {
		c.left(c.ingestDir(ref))
	}
	return err
}

// ingestWriter writes one blob. The store passes over a directory that it cannot remove then, and would not find it again.
type ingestWriter struct {
	content.Writer
	dir  string
	left func(dir string)
}

func (w ingestWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	err := w.Writer.Commit(ctx, size, expected, opts...)
	if err == nil || errdefs.IsAlreadyExists(err) {
		if _, statErr := os.Lstat(w.dir); statErr == nil {
			w.left(w.dir)
		}
	}
	return err
}

// Delete removes a blob.
func (c flushedContent) Delete(ctx context.Context, d digest.Digest) error {
	err := c.flushes.Flush()
	if err == nil {
		err = c.Store.Delete(ctx, d)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		c.failed()
	}
	return err
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

	// cleaning is how many look for directories without a record. It is set with mu held, which each removal of a record
	// holds for reading.
	mu       sync.RWMutex
	cleaning int

	// removals counts calls that may leave a directory without a record, and cleaned is how many there had been when
	// the last Cleanup began that went well. Who is told of each removal sees that one follows.
	removals, cleaned atomic.Uint64
	removed           func()
}

// state tells whether directories may be left without a record, and whether somebody is removing such ones.
func (s *flushedSnapshots) state() (unclean, cleaning bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.removals.Load() != s.cleaned.Load(), s.cleaning > 0
}

// left is called when a directory may be left without a record.
func (s *flushedSnapshots) left() {
	s.removals.Add(1)
	s.removed()
}

// Prepare makes a snapshot that can be written to.
func (s *flushedSnapshots) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.made(s.Snapshotter.Prepare(ctx, key, parent, opts...))
}

// View makes a snapshot that can be read.
func (s *flushedSnapshots) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.made(s.Snapshotter.View(ctx, key, parent, opts...))
}

func (s *flushedSnapshots) made(mounts []mount.Mount, err error) ([]mount.Mount, error) {
	if err != nil && !isRefusal(err) {
		s.left()
	}
	return mounts, err
}

// Remove takes a snapshot out of the snapshotter's own database. Its directory stays, so that a crash which brings the
// record back brings no harm, unless somebody removes directories at the time.
func (s *flushedSnapshots) Remove(ctx context.Context, key string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.cleaning > 0 {
		if err := s.flushes.Flush(); err != nil {
			s.left()
			return err
		}
	}
	err := s.Snapshotter.Remove(ctx, key)
	if err == nil || !isRefusal(err) {
		s.left()
	}
	return err
}

// isRefusal tells that an error is an answer, after which all is as before.
func isRefusal(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsAlreadyExists(err) || errdefs.IsFailedPrecondition(err) || errdefs.IsInvalidArgument(err)
}

// Cleanup removes the directories of snapshots that were removed.
func (s *flushedSnapshots) Cleanup(ctx context.Context) error {
	cleaner, ok := s.Snapshotter.(snapshots.Cleaner)
	if !ok {
		return fmt.Errorf("snapshotter %T cannot clean up", s.Snapshotter)
	}
	s.count(1)
	defer s.count(-1)
	began := s.removals.Load()
	err := s.flushes.Flush()
	if err == nil {
		err = cleaner.Cleanup(ctx)
	}
	if err != nil {
		s.left()
		return err
	}
	s.cleaned.Store(began)
	return nil
}

func (s *flushedSnapshots) count(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleaning += more
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
	return &overlaySnapshots{o, records, filepath.Join(dir, "snapshots")}, nil
}

// overlaySnapshots is the overlay snapshotter, which tells of the directories that it cannot remove: the library's only
// logs them.
type overlaySnapshots struct {
	snapshots.Snapshotter
	records *storage.MetaStore
	dir     string // has a directory for each snapshot
}

// errStays is the error if a directory cannot be removed.
var errStays = errors.New("directory of a removed snapshot stays")

// Cleanup removes the directories that have no record.
func (o *overlaySnapshots) Cleanup(ctx context.Context) error {
	var stray []string
	// Nobody else makes a directory, or a record for one, in the middle of this transaction.
	err := o.records.WithTransaction(ctx, true, func(ctx context.Context) error {
		known, err := storage.IDMap(ctx)
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(o.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if _, ok := known[e.Name()]; !ok {
				stray = append(stray, filepath.Join(o.dir, e.Name()))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range stray {
		if err := os.RemoveAll(dir); err != nil {
			failed = append(failed, fmt.Errorf("%w: %w", errStays, err))
		}
	}
	return errors.Join(failed...)
}
