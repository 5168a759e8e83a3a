package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine/state"
)

// expectingRuntime begins starts in memory.
type expectingRuntime struct {
	*fakeRuntime
	mu    sync.Mutex
	begun []string
	most  int
}

func (r *expectingRuntime) Expect(b Bundle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, b.ID)
	r.most = max(r.most, len(r.begun))
}

func (r *expectingRuntime) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = slices.DeleteFunc(r.begun, func(s string) bool { return s == id })
}

func (r *expectingRuntime) Create(ctx context.Context, b Bundle) (Task, error) {
	r.Forget(b.ID)
	return r.fakeRuntime.Create(ctx, b)
}

func (r *expectingRuntime) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.begun)
}

func TestExpectedStarts(t *testing.T) {
	w := newWorld(t)
	r := &expectingRuntime{fakeRuntime: w.runtime}
	w.Engine.deps.Runtime = r
	var ids []string
	for range expectMost + 2 {
		ids = append(ids, w.create("", nil, "sleep"))
	}
	eventually(t, "the first starts are begun", func() bool { return len(r.list()) == expectMost })
	for _, id := range ids {
		w.start(id)
	}
	last := w.create("", nil, "sleep")
	eventually(t, "one more is begun once the others are started", func() bool { return slices.Equal(r.list(), []string{last}) })
	if r.most > expectMost {
		t.Errorf("%d were begun at once, want %d at most", r.most, expectMost)
	}
	if err := w.ContainerRemove(t.Context(), last, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := r.list(); len(left) != 0 {
		t.Errorf("begun for removed containers: %v", left)
	}
}

func TestExpectedStartThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCtr(nil, &state.Container{ID: "box", Life: state.Life{Status: container.StateCreated}})
		began := time.Now()
		if c.startedWithin(t.Context(), expectTime) || time.Since(began) != expectTime {
			t.Errorf("waited %v for a start that does not come", time.Since(began))
		}
		time.AfterFunc(time.Second, func() { close(c.gone) })
		if !c.startedWithin(t.Context(), expectTime) {
			t.Error("a start is expected of a container that is gone")
		}
	})
}

// TestRealManyAtOnce starts containers that others have been created after, at the very moment at which a runtime that
// expects no more starts than it can keep would let go of theirs.
func TestRealManyAtOnce(t *testing.T) {
	w := newRealWorld(t)
	const many = 8 * expectMost
	var ids []string
	var wg sync.WaitGroup
	errs := make([]error, many)
	for i := range many {
		ids = append(ids, w.create("", nil, "true"))
		if i >= expectMost {
			before := ids[i-expectMost]
			wg.Go(func() { errs[i] = w.ContainerStart(t.Context(), before) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		w.remove(id)
	}
}
