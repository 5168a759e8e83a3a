package engine

import (
	"sync"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/engine/state"
)

// The host ids that containers get. The region is one that the conventions of Linux distributions leave free: above what
// systemd keeps for its own containers (up to 0x6FFFFFFF) and below its range for foreign users (from 0x7FFE0000).
const (
	idRangeSize  = 65536
	idRangeFirst = 0x7000_0000
	idRangeEnd   = 0x7FFE_0000
)

// idRanges gives each container a range of host ids of its own. Ranges are remembered in the containers' records, and
// the containers that join one another share one.
type idRanges struct {
	mu   sync.Mutex
	used map[uint32]int // first host id -> containers
	next uint32
}

func newIDRanges() *idRanges { return &idRanges{used: map[uint32]int{}, next: idRangeFirst} }

// allocate returns a range that nobody uses. It goes round the region, so that a range is not used again soon.
func (r *idRanges) allocate() (state.IDRange, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range (idRangeEnd - idRangeFirst) / idRangeSize {
		at := r.next
		if r.next += idRangeSize; r.next >= idRangeEnd {
			r.next = idRangeFirst
		}
		if r.used[at] == 0 {
			r.used[at] = 1
			return state.IDRange{Host: at, Size: idRangeSize}, nil
		}
	}
	return state.IDRange{}, errdefs.ErrResourceExhausted.WithMessage("no free range of user ids is left")
}

// share counts one more user of a range. The host's own, of size 0, is not counted.
func (r *idRanges) share(x state.IDRange) {
	if x.Size == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[x.Host]++
	if x.Host >= r.next && x.Host+idRangeSize < idRangeEnd {
		r.next = x.Host + idRangeSize
	}
}

// release gives back one use of a range.
func (r *idRanges) release(x state.IDRange) {
	if x.Size == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[x.Host]--; r.used[x.Host] <= 0 {
		delete(r.used, x.Host)
	}
}
