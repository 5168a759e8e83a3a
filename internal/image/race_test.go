package image

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// Images that go while others are listed or measured are left out of the answer, which is no error.
func TestListWhileRemoving(t *testing.T) {
	s := open(t)
	var archives [][]byte
	for n := range 30 {
		archives = append(archives, ociArchive(t, fmt.Sprintf("app:%d", n), small(t, fmt.Sprintf("image %d", n))))
	}
	done := make(chan error, 1)
	go func() {
		for n, a := range archives {
			_, err := s.Load(t.Context(), bytes.NewReader(a), LoadOptions{}, nil)
			if err == nil {
				_, err = s.Remove(t.Context(), fmt.Sprintf("app:%d", n), RemoveOptions{})
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		if _, err := s.List(t.Context(), ListOptions{SharedSize: true, Manifests: true}); err != nil {
			t.Fatalf("list: %v", err)
		}
		if _, err := s.DiskUsage(t.Context()); err != nil {
			t.Fatalf("disk usage: %v", err)
		}
		if _, err := s.Claims(t.Context()); err != nil {
			t.Fatalf("claims: %v", err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// An image whose layers are lost is listed, measured and removed; it hides no others.
func TestLostLayers(t *testing.T) {
	s := open(t)
	lost := load(t, s, ociArchive(t, "lost", small(t, "lost")))[0].ID
	load(t, s, ociArchive(t, "whole", small(t, "whole")))
	entries, err := s.catalog(s.in(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	s.snapshot = losing{s.snapshot, entries[lost].contents.snapshot}
	list, err := s.List(t.Context(), ListOptions{SharedSize: true})
	if err != nil || len(list) != 2 {
		t.Fatalf("list: %d images, %v", len(list), err)
	}
	for _, sum := range list {
		if (sum.Size == 0) != (sum.ID == lost) {
			t.Errorf("%s has a size of %d", sum.RepoTags, sum.Size)
		}
	}
	if _, err := s.DiskUsage(t.Context()); err != nil {
		t.Errorf("disk usage: %v", err)
	}
	if _, err := s.Claims(t.Context()); err != nil {
		t.Errorf("claims: %v", err)
	}
	if _, err := s.Remove(t.Context(), "lost", RemoveOptions{}); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// losing is a snapshotter that has lost a layer.
type losing struct {
	snapshots.Snapshotter
	key string
}

func (l losing) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	if key == l.key {
		return snapshots.Info{}, errdefs.ErrNotFound
	}
	return l.Snapshotter.Stat(ctx, key)
}

// vanishing is a snapshotter that calls then once, after the first look at a layer that is there.
type vanishing struct {
	snapshots.Snapshotter
	then func()
}

func (v *vanishing) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	info, err := v.Snapshotter.Stat(ctx, key)
	if then := v.then; err == nil && then != nil {
		v.then = nil
		then()
	}
	return info, err
}

// A load finds a layer unpacked, and then the image goes that had it.
func TestLoadWhileRemoving(t *testing.T) {
	s := open(t)
	one, other := small(t, "one"), small(t, "other")
	other.layers = one.layers
	load(t, s, ociArchive(t, "one", one))
	v := &vanishing{Snapshotter: s.snapshot}
	v.then = func() {
		if _, err := s.Remove(t.Context(), "one", RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	s.snapshot = v
	load(t, s, ociArchive(t, "other", other))
	if v.then != nil {
		t.Fatal("the layer was not looked at")
	}
	s.snapshot = v.Snapshotter
	createRootFS(t, s, "c1", "other")
}

// The image of a container that is committed goes while its layer is written. What comes out is whole.
func TestCommitWhileRemoving(t *testing.T) {
	s := open(t)
	changed(t, s)
	img, err := s.Resolve(t.Context(), "img")
	if err != nil {
		t.Fatal(err)
	}
	ctx, done, err := s.lease(s.in(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	o := CommitOptions{ContainerID: "c1", ImageID: img.ID}
	base, err := s.baseOf(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), img.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	layer, err := s.commitLayer(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.stack(ctx, base, layer, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.complete(ctx, c.target, 0); err != nil {
		t.Errorf("the image lacks %v", err)
	}
}
