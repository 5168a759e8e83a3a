// Package patient looks at what may never answer: a process that is stuck in the
// kernel, a file system whose server is gone.
//
//	text, err := patient.Within(ctx, "maps 17", time.Second, func() ([]byte, error) {
//		return os.ReadFile("/proc/17/maps")
//	})
//
// Nothing can end such a look. [Within] leaves it behind, and begins no second one
// at the same thing before it has ended: what is stuck holds up one thread, however
// often it is looked at.
package patient

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// ErrLate tells that there was no answer in time.
var ErrLate = errdefs.ErrUnavailable.WithMessage("no answer in time")

// turns are the looks that are under way, by what they look at.
type turns struct {
	mu   sync.Mutex
	open map[string]chan struct{} // closed when the look ends
}

var looks = turns{open: map[string]chan struct{}{}}

// take begins a look, or returns what to wait for before.
func (t *turns) take(key string) (wait <-chan struct{}, end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if open, busy := t.open[key]; busy {
		return open, nil
	}
	done := make(chan struct{})
	t.open[key] = done
	return nil, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, key)
		close(done)
	}
}

// Within does fn, and gives it up after the time with [ErrLate], or with ctx and its
// cause. The key names what fn looks at; looks at the same take turns.
func Within[T any](ctx context.Context, key string, patience time.Duration, fn func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	done := make(chan answer, 1)
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		wait, end := looks.take(key)
		if wait == nil {
			go func() {
				defer end()
				value, err := fn()
				done <- answer{value, err}
			}()
		}
		select {
		case <-wait:
		case a := <-done:
			return a.value, a.err
		case <-late.C:
			return none, ErrLate
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
