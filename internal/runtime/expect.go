package runtime

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"
)

// Between the creation of a container and its start a client sends two or three
// further requests. A shim takes about as long to come up. So it is begun as soon
// as the start can be expected, and is thrown away if none comes.
const (
	// expectTime is how long a start is waited for.
	expectTime = 5 * time.Second
	// expectMost is for how many containers at once: somebody who creates a
	// thousand is not about to start them.
	expectMost = 4
)

// expected is a creation that was begun before it was asked for.
type expected struct {
	cr    *creation
	timer *time.Timer
	done  chan struct{} // closed when cr and err are final
	err   error
}

// expectations are the creations that were begun.
type expectations struct {
	mu     sync.Mutex // guards what follows
	byID   map[string]*expected
	order  []string // the oldest first
	closed bool
}

// Expect says that [Runtime.Create] is likely to be called with b within
// seconds, and begins with what does not depend on anything that may change
// until then: directories, cgroup and shim, but no mount. It returns at once. If
// Create does not come in time, comes with another bundle, or [Runtime.Forget] is
// called, what was begun is taken back. It does nothing for containers that are
// not in a user namespace of their own; their shims start fast.
//
// b and what it refers to must not be changed any more.
func (r *Runtime) Expect(b Bundle) {
	if b.IDs.Size == 0 || len(b.Join) > 0 || !idPattern.MatchString(b.ID) {
		return
	}
	e := &expected{done: make(chan struct{})}
	x := &r.expected
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.byID[b.ID] != nil {
		return
	}
	if len(x.order) >= expectMost {
		if old := x.take(x.order[0]); old != nil {
			go old.drop()
		}
	}
	if x.byID == nil {
		x.byID = map[string]*expected{}
	}
	x.byID[b.ID] = e
	x.order = append(x.order, b.ID)
	e.timer = time.AfterFunc(expectTime, func() { r.Forget(b.ID) })
	go func() {
		defer close(e.done)
		e.cr = r.newCreation(context.Background(), &b)
		if e.err = e.cr.run(e.cr.early()); e.err != nil {
			e.cr.undo() // Create will tell the error
		}
	}()
}

// Forget takes back what [Runtime.Expect] has begun for a container. It returns
// when nothing of it is left.
func (r *Runtime) Forget(id string) {
	r.expected.mu.Lock()
	e := r.expected.take(id)
	r.expected.mu.Unlock()
	if e != nil {
		e.drop()
	}
}

// take hands an expectation over to the caller, nil if there is none. The
// caller holds mu.
func (x *expectations) take(id string) *expected {
	e := x.byID[id]
	if e == nil {
		return nil
	}
	delete(x.byID, id)
	x.order = slices.DeleteFunc(x.order, func(s string) bool { return s == id })
	e.timer.Stop()
	return e
}

// close drops all expectations and has no new ones.
func (x *expectations) close() {
	x.mu.Lock()
	x.closed = true
	var all []*expected
	for _, id := range slices.Clone(x.order) {
		all = append(all, x.take(id))
	}
	x.mu.Unlock()
	for _, e := range all {
		e.drop()
	}
}

func (e *expected) drop() {
	<-e.done
	if e.err == nil {
		e.cr.undo()
	}
}

// begun is the creation of b as far as it was begun, or a new one.
func (r *Runtime) begun(ctx context.Context, b *Bundle) (cr *creation, rest []step) {
	r.expected.mu.Lock()
	e := r.expected.take(b.ID)
	r.expected.mu.Unlock()
	if e != nil {
		<-e.done
		if e.err == nil && reflect.DeepEqual(*e.cr.b, *b) {
			e.cr.ctx, e.cr.begin = ctx, time.Now()
			return e.cr, e.cr.late()
		}
		e.drop()
	}
	cr = r.newCreation(ctx, b)
	return cr, slices.Concat(cr.early(), cr.late())
}
