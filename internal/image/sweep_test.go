package image

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"
)

// broken is a snapshotter that fails in one of its methods for a while.
type broken struct {
	snapshots.Snapshotter
	removals, cleanups atomic.Int64 // so many yet
}

func (b *broken) Remove(ctx context.Context, key string) error {
	if b.removals.Add(-1) >= 0 {
		return unix.EIO
	}
	return b.Snapshotter.Remove(ctx, key)
}

func (b *broken) Cleanup(ctx context.Context) error {
	if b.cleanups.Add(-1) >= 0 {
		return unix.EIO
	}
	return b.Snapshotter.(snapshots.Cleaner).Cleanup(ctx)
}

// TestSweep: layers that could not be removed with their image go later, with nobody asking for anything.
func TestSweep(t *testing.T) {
	for name, set := range map[string]func(*broken){
		"their records": func(b *broken) { b.removals.Store(2) },
		"their files":   func(b *broken) { b.cleanups.Store(2) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			left := func() int {
				entries, err := os.ReadDir(filepath.Join(s.overlayDir(), "snapshots"))
				if err != nil {
					t.Fatal(err)
				}
				return len(entries)
			}
			before := left()
			load(t, s, ociArchive(t, "a", small(t, "a")))
			if left() == before {
				t.Fatal("the image has no layers")
			}
			b := &broken{Snapshotter: s.flushed.Snapshotter}
			set(b)
			s.flushed.Snapshotter = b
			if _, err := s.Remove(t.Context(), "a", RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if left() == before {
				t.Error("they went at once, although they could not be removed")
			}
			for end := time.Now().Add(30 * time.Second); left() != before; {
				if time.Now().After(end) {
					t.Fatalf("%d directories of layers are left, there were %d", left(), before)
				}
				<-time.After(50 * time.Millisecond)
			}
		})
	}
}
