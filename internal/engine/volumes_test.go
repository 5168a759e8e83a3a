package engine

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/testenv"
)

// failingVolumes are volumes whose first filling fails, after before was called.
type failingVolumes struct {
	Volumes
	before func()
	failed atomic.Bool
}

func (f *failingVolumes) CopyUp(ctx context.Context, name string, root *os.File, path string) error {
	if f.failed.CompareAndSwap(false, true) {
		f.before()
		return errors.New("no room")
	}
	return f.Volumes.CopyUp(ctx, name, root, path)
}

// A creation that fails takes the volume along that it has made, unless another container has got it meanwhile.
func TestFailedCreationKeepsVolumeOfOthers(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, shared := range []bool{true, false} {
		w := newWorld(t)
		w.images.bare = true
		named := func(r *container.CreateRequest) { r.HostConfig.Binds = []string{"shared:/data"} }
		volumes := &failingVolumes{Volumes: w.deps.Volumes, before: func() {
			if shared {
				w.create("second", named)
			}
		}}
		w.deps.Volumes = volumes
		req := container.CreateRequest{Config: &container.Config{Image: "busybox"}, HostConfig: &container.HostConfig{}}
		named(&req)
		if _, err := w.ContainerCreate(t.Context(), "first", req, nil); err == nil || !volumes.failed.Load() {
			t.Fatalf("the first creation: %v", err)
		}
		if _, err := volumes.Get("shared"); (err == nil) != shared {
			t.Errorf("shared is %v; the volume: %v", shared, err)
		}
	}
}
