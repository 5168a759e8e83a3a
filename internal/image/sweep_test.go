package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/google/go-cmp/cmp"
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
			eventually(t, "all directories of layers go", func() bool { return left() == before })
		})
	}
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestMountedStays: what cannot be removed because something is mounted there goes once that is not so any more.
func TestMountedStays(t *testing.T) {
	for _, tt := range []struct {
		name string
		on   func(s *Store, l Layers) string
		err  error // of the removal of the container
	}{
		{"in a layer", func(_ *Store, l Layers) string { return l.Lower[0] }, nil},
		{"on a writable layer", func(s *Store, _ Layers) string { return filepath.Join(s.rootfsDir(), "c") }, unix.EBUSY},
		{"in a writable layer", func(_ *Store, l Layers) string { return l.Upper }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			files := func() (list []string) {
				t.Helper()
				for _, dir := range []string{filepath.Join(s.overlayDir(), "snapshots"), s.rootfsDir(), s.trashDir()} {
					entries, err := os.ReadDir(dir)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range entries {
						list = append(list, filepath.Join(dir, e.Name()))
					}
				}
				return list
			}
			before := files()
			load(t, s, ociArchive(t, "a", small(t, "a")))
			dir := tt.on(s, createRootFS(t, s, "c", "a"))
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unmountBelow(t, s.root) })
			if err := s.RemoveRootFS(t.Context(), "c"); !errors.Is(err, tt.err) {
				t.Errorf("RemoveRootFS() = %v, want %v", err, tt.err)
			}
			if _, err := s.Remove(t.Context(), "a", RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(files(), before) {
				t.Error("all went, although it could not be removed")
			}
			unmountBelow(t, s.root)
			eventually(t, "all goes", func() bool { return cmp.Equal(files(), before) })
		})
	}
}

// unmountBelow takes away what is mounted below a directory, which may have been moved meanwhile.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
			if err := unix.Unmount(f[4], 0); err != nil {
				t.Errorf("unmount %s: %v", f[4], err)
			}
		}
	}
}
