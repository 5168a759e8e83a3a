package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// turn lets the mutating verbs of one container happen one after the other, and tells who is at it.
type turn struct {
	slot   chan struct{}
	holder *atomic.Pointer[holder]
}

type holder struct {
	verb  string
	since time.Time
}

func newTurn() turn {
	return turn{slot: make(chan struct{}, 1), holder: new(atomic.Pointer[holder])}
}

// take waits until it is the caller's turn and returns the function that ends it. When ctx ends first, the error names
// the verb that was waited for and how long it has been at work.
func (t turn) take(ctx context.Context, verb string) (release func(), err error) {
	select {
	case t.slot <- struct{}{}:
	default:
		select {
		case t.slot <- struct{}{}:
		case <-ctx.Done():
			if h := t.holder.Load(); h != nil {
				return nil, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("%s waited for %s, which has been at work for %s: %v",
					verb, h.verb, time.Since(h.since).Round(time.Millisecond), context.Cause(ctx)))
			}
			return nil, context.Cause(ctx)
		}
	}
	t.holder.Store(&holder{verb: verb, since: time.Now()})
	return func() {
		t.holder.Store(nil)
		<-t.slot
	}, nil
}
