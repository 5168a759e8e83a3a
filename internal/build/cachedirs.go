package build

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
)

// cacheDirs knows which records of the build cache are mounted as caches by steps
// (RUN --mount=type=cache).
//
// BuildKit takes a record for as long as it sums up its size, for a prune, the
// collection of garbage or "system df", and gives a step that wants it meanwhile
// another, empty one: the cache seems to be lost, and there are two of it from
// then on. Who has a record tells whether it is worth waiting for.
type cacheDirs struct {
	mu   sync.Mutex
	held map[string]int // by ID of the record
}

// patience is how long a step waits for a cache that no step has. To sum up a
// large one takes seconds; others who want a cache wait behind.
const patience = 5 * time.Second

// pause is how often it looks.
const pause = 5 * time.Millisecond

// get is m.GetMutable, which waits for who has the record if that is no step.
func (d *cacheDirs) get(ctx context.Context, m cache.Manager, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	for end := time.Now().Add(patience); ; {
		ref, err := m.GetMutable(ctx, id, opts...)
		if err == nil {
			return d.hold(ref), nil
		}
		if !errors.Is(err, cache.ErrLocked) || d.has(id) || time.Now().After(end) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// hold notes that a step has a cache until it releases it. Other records are let
// through.
func (d *cacheDirs) hold(ref cache.MutableRef) cache.MutableRef {
	if ref.GetRecordType() != client.UsageRecordTypeCacheMount {
		return ref
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		d.held = map[string]int{}
	}
	d.held[ref.ID()]++
	return &heldDir{MutableRef: ref, release: sync.OnceFunc(func() { d.drop(ref.ID()) })}
}

func (d *cacheDirs) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held[id] > 0
}

func (d *cacheDirs) drop(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[id]--; d.held[id] <= 0 {
		delete(d.held, id)
	}
}

// heldDir is a cache that a step has.
type heldDir struct {
	cache.MutableRef
	release func()
}

// Release gives it back.
func (h *heldDir) Release(ctx context.Context) error {
	defer h.release() // not before: who asks meanwhile would wait for nothing
	return h.MutableRef.Release(ctx)
}

// Commit makes it an immutable record, which is no step's any more.
func (h *heldDir) Commit(ctx context.Context) (cache.ImmutableRef, error) {
	defer h.release()
	return h.MutableRef.Commit(ctx)
}

// GetMutable takes a record to write to; see [cache.Accessor].
func (k *rootKeeper) GetMutable(ctx context.Context, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	return k.dirs.get(ctx, k.Manager, id, opts...)
}
