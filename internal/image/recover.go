package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// recover brings the store into a known state at the start of a process.
func (s *Store) recover(ctx context.Context) error {
	if err := s.scanRootFS(ctx); err != nil {
		return err
	}
	unclean, err := s.markUnclean()
	if err != nil {
		return err
	}
	dropped, err := s.dropTemporaryLeases(ctx)
	if err != nil {
		return err
	}
	if unclean {
		if err := s.clearStray(ctx); err != nil {
			return err
		}
		// A full disk must not keep the daemon from starting: it is needed to make room.
		if err := s.markDirty(ctx); isFull(err) {
			s.unswept.Store(true)
			s.logger.Warn("disk is full: what a killed daemon may have left of images is removed at a later start", "err", err)
		} else if err != nil {
			return err
		}
	}
	expired, err := s.scanBroken(ctx)
	if err != nil {
		return err
	}
	if unclean || dropped || expired {
		s.collect(ctx)
	}
	s.emptyTrash()
	return nil
}

// isFull tells that a disk took no more.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// isLack tells that this process, or the machine, had nothing to do it with.
func isLack(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// markUnclean tells whether the last process ended without Close and leaves
// the mark for the next.
func (s *Store) markUnclean() (bool, error) {
	f, err := os.OpenFile(s.uncleanMark(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return true, nil
	}
	if isFull(err) {
		s.logger.Warn("disk is full: should this daemon be killed, the next one does not know it of the image store", "err", err)
		return s.flushes.Restored, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark store as open: %w", err)
	}
	// Databases that were put back know nothing of the newest files, whether the
	// mark has reached the disk in time or not.
	return s.flushes.Restored, f.Close()
}

// dropTemporaryLeases ends the leases of operations that a former process did
// not finish.
func (s *Store) dropTemporaryLeases(ctx context.Context) (bool, error) {
	stale, err := s.leases.List(ctx, fmt.Sprintf("labels.%q", labelTemporary))
	if err != nil {
		return false, fmt.Errorf("list leases: %w", err)
	}
	for _, l := range stale {
		if err := s.leases.Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			return false, fmt.Errorf("delete lease %q: %w", l.ID, err)
		}
	}
	return len(stale) > 0, nil
}

// clearStray removes what containerd's stores themselves do not find again.
//
// The snapshotter puts a directory in its place before it commits the number
// of it: killed in between, it would stumble over the directory when it gives
// out the number again. The content store begins a write with a directory, named for the digest of the
// write's name, which is in the file ref. Killed before that file is made or
// filled, the directory is unknown to it.
func (s *Store) clearStray(ctx context.Context) error {
	if err := s.clearStraySnapshots(ctx); err != nil {
		return fmt.Errorf("remove stray snapshots: %w", err)
	}
	return clearDir(filepath.Join(s.root, "content", "ingest"), func(dir string) bool {
		ref, err := os.ReadFile(filepath.Join(dir, "ref"))
		if err != nil {
			return errors.Is(err, os.ErrNotExist)
		}
		return digest.FromBytes(ref).Encoded() != filepath.Base(dir)
	})
}

func (s *Store) clearStraySnapshots(ctx context.Context) error {
	cleaner, ok := s.overlay.(snapshots.Cleaner)
	if !ok {
		return failf(errdefs.ErrNotImplemented, "snapshotter %T cannot clean up", s.overlay)
	}
	err := cleaner.Cleanup(ctx)
	if errdefs.IsNotFound(err) { // it has not committed any snapshot yet
		return clearDir(filepath.Join(s.layersDir(), "overlay", "snapshots"), func(string) bool { return true })
	}
	if errors.Is(err, errStays) {
		s.logger.WarnContext(ctx, "layers stay for now", "err", err)
		s.flushed.left()
		return nil
	}
	return err
}

// clearDir removes those of the directories in dir for which stray is true.
func clearDir(dir string, stray func(string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stray files: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !stray(path) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove stray files: %w", err)
		}
	}
	return nil
}

// markDirty makes the next garbage collection compare the files on disk with
// the database. containerd does that only for a part of the store from which
// something was removed in the life of the process; a process that was killed
// between database and disk leaves files that nothing would ever remove. So
// something small is made and removed in each part.
func (s *Store) markDirty(ctx context.Context) error {
	const key = "recover"
	if err := s.snapshot.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot %q: %w", key, err)
	}
	if _, err := s.snapshot.Prepare(ctx, key, ""); err != nil {
		return fmt.Errorf("prepare snapshot %q: %w", key, err)
	}
	if err := s.snapshot.Remove(ctx, key); err != nil {
		return fmt.Errorf("remove snapshot %q: %w", key, err)
	}
	blob := []byte(key)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	if err := s.writeBlob(ctx, desc, blob); err != nil {
		return err
	}
	if err := s.content.Delete(ctx, desc.Digest); err != nil {
		return fmt.Errorf("delete blob %s: %w", desc.Digest, err)
	}
	return nil
}
