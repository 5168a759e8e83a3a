package build

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	"github.com/opencontainers/go-digest"
)

// rootKeeper is the build cache as one exec operation sees it: it tells which
// record the operation's root becomes, and lets the cache keep that of a step
// that failed, which it would drop with the error.
type rootKeeper struct {
	cache.Manager
	watchers *watchers
	dirs     *cacheDirs
	vertex   digest.Digest
	keep     atomic.Bool
}

// rootDescription begins the description that BuildKit gives to the record for
// an exec operation's root.
const rootDescription = "mount / from exec "

// New makes a record; see [cache.Accessor].
func (k *rootKeeper) New(ctx context.Context, parent cache.ImmutableRef, s session.Group, opts ...cache.RefOption) (cache.MutableRef, error) {
	ref, err := k.Manager.New(ctx, parent, s, opts...)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(ref.GetDescription(), rootDescription) {
		return k.dirs.hold(ref), nil
	}
	k.keep.Store(false)
	return keptRoot{MutableRef: ref, keeper: k}, nil
}

// failed makes the cache keep what the step has left. It returns where the
// instruction is, if that is known.
func (k *rootKeeper) failed(exit int) (place string) {
	k.keep.Store(true)
	return k.watchers.failed(k.vertex, exit)
}

// keptRoot is the writable root of an exec operation.
type keptRoot struct {
	cache.MutableRef
	keeper *rootKeeper
}

// Commit makes it a record that nothing changes any more.
func (r keptRoot) Commit(ctx context.Context) (cache.ImmutableRef, error) {
	ref, err := r.MutableRef.Commit(ctx)
	if err != nil {
		return nil, err
	}
	if r.keeper.keep.Load() {
		if err := ref.SetCachePolicyRetain(); err != nil {
			return ref, nil //nolint:nilerr // it is not kept then, as without us
		}
	}
	r.keeper.watchers.reached(r.keeper.vertex, layerRecords(ref))
	return ref, nil
}
