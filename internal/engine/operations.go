package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/event"
)

// slowAfter is the age from which an operation is reported as slow, without having been asked for.
const slowAfter = 10 * time.Second

// operations are the things under way that may take time: what a client has asked for, and what the engine does by
// itself. Each is there from before its first wait to its end, so that whatever hangs can be seen from outside.
type operations struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*operation
}

// operation is one of them. It does not change.
type operation struct {
	id    uint64
	kind  string
	c     *ctr   // nil: of no container that exists
	name  string // what it is about, where c is nil
	by    *event.Origin
	since time.Time
	slow  *time.Timer
}

func newOperations() *operations { return &operations{open: map[uint64]*operation{}} }

// begin notes that an operation on c begins; kind is a verb, as people would say it. The returned function ends it.
func (e *Engine) begin(ctx context.Context, kind string, c *ctr) (done func()) {
	return e.beginOp(ctx, &operation{kind: kind, c: c})
}

// beginNamed is begin for what has no container, or not yet.
func (e *Engine) beginNamed(ctx context.Context, kind, name string) (done func()) {
	return e.beginOp(ctx, &operation{kind: kind, name: name})
}

func (e *Engine) beginOp(ctx context.Context, op *operation) (done func()) {
	op.by, op.since = event.OriginOf(ctx), time.Now()
	op.slow = time.AfterFunc(slowAfter, func() {
		o := op.show(time.Now())
		e.log.Warn("operation takes long", "operation", o.Verb, "container", o.Container, "name", o.Name, "waits_for", o.WaitsFor)
	})
	o := e.operations
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	op.id = o.last
	o.open[op.id] = op
	return func() {
		op.slow.Stop()
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.open, op.id)
	}
}

// Operation is something that is under way.
type Operation struct {
	ID        uint64        `json:"id"`
	Verb      string        `json:"verb"`
	Container string        `json:"container,omitempty"` // its id; empty: of none
	Name      string        `json:"name,omitempty"`      // the container's, or of what else it is about
	By        *event.Origin `json:"by,omitempty"`        // who asked for it; nil: the daemon itself, or not known
	Since     time.Time     `json:"since"`
	Age       time.Duration `json:"age_ns"`
	Slow      bool          `json:"slow,omitempty"`      // it takes longer than is usual for anything
	WaitsFor  string        `json:"waits_for,omitempty"` // another operation on the container, which has to end first
}

func (op *operation) show(now time.Time) Operation {
	o := Operation{ID: op.id, Verb: op.kind, Name: op.name, By: op.by, Since: op.since, Age: now.Sub(op.since)}
	o.Slow = o.Age >= slowAfter
	if op.c == nil {
		return o
	}
	o.Container, o.Name = op.c.id, op.c.view().Name
	if h := op.c.turn.holder.Load(); h != nil && h.verb != op.kind {
		o.WaitsFor = h.verb
	}
	return o
}

// Operations lists what is under way, the oldest first: on the container that ref names, or if it is empty everything.
// It waits for nobody.
func (e *Engine) Operations(ref string) ([]Operation, error) {
	var only *ctr
	if ref != "" {
		var err error
		if only, err = e.lookUp(ref); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	e.operations.mu.Lock()
	var open []*operation
	for _, op := range e.operations.open {
		if only == nil || op.c == only {
			open = append(open, op)
		}
	}
	e.operations.mu.Unlock()
	slices.SortFunc(open, func(a, b *operation) int { return cmp.Compare(a.id, b.id) })
	list := make([]Operation, 0, len(open))
	for _, op := range open {
		list = append(list, op.show(now))
	}
	return list, nil
}

// slowOperations are warnings about what takes long, for [Engine.Info].
func (e *Engine) slowOperations() []string {
	var list []string
	all, err := e.Operations("")
	if err != nil {
		return nil // it is an error of references only
	}
	for _, o := range all {
		if !o.Slow {
			continue
		}
		text := "WARNING: " + o.Verb + " of " + o.Name + " has been under way for " + o.Age.Round(time.Second).String()
		if o.WaitsFor != "" {
			text += " and waits for " + o.WaitsFor
		}
		list = append(list, text)
	}
	return list
}

// operate finds the container that ref names for something that changes it or needs its processes. If an earlier daemon
// has left it, it is waited for until its shim was asked, or has not answered. The returned function ends the operation.
func (e *Engine) operate(ctx context.Context, kind, ref string) (c *ctr, done func(), err error) {
	return e.operateOn(ctx, kind, ref, e.findContainer)
}

// operateOn is operate for what find finds.
func (e *Engine) operateOn(ctx context.Context, kind, ref string, find func(ref string) (*ctr, error)) (c *ctr, done func(), err error) {
	if c, err = find(ref); err != nil {
		return nil, nil, err
	}
	done = e.begin(ctx, kind, c)
	if err := e.awaitAdoption(ctx, c); err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}
