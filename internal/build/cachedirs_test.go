package build

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
)

// lockedCache has one record, a cache that steps mount, which is locked for some
// looks.
type lockedCache struct {
	cache.Manager
	locked int
	looks  int
}

func (c *lockedCache) GetMutable(context.Context, string, ...cache.RefOption) (cache.MutableRef, error) {
	c.looks++
	if c.locked > 0 {
		c.locked--
		return nil, errors.Join(errors.New("x is locked"), cache.ErrLocked)
	}
	return fakeDir{}, nil
}

type fakeDir struct{ cache.MutableRef }

func (fakeDir) ID() string                            { return "x" }
func (fakeDir) GetRecordType() client.UsageRecordType { return client.UsageRecordTypeCacheMount }
func (fakeDir) Release(context.Context) error         { return nil }

func TestCacheThatIsMeasured(t *testing.T) {
	d := &cacheDirs{}
	c := &lockedCache{locked: 3}
	ref, err := d.get(t.Context(), c, "x")
	if err != nil {
		t.Fatalf("a cache that somebody measures: %v", err)
	}
	// It is a step's now: who wants it as well gets another one, without waiting.
	c.locked, c.looks = 1<<30, 0
	if _, err := d.get(t.Context(), c, "x"); !errors.Is(err, cache.ErrLocked) || c.looks != 1 {
		t.Errorf("a cache that a step has: %v after %d looks", err, c.looks)
	}
	for range 2 { // a second release counts for nothing
		if err := ref.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d.has("x") {
		t.Error("it is held after its release")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.get(ctx, c, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a build that is ended while it waits: %v", err)
	}
}
