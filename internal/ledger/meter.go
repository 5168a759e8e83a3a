package ledger

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"time"
)

const (
	// A size is good for reuse times what the walk took, up to maxAge: measuring then takes a few per cent of one
	// processor at the most, and small trees are as good as never remembered.
	reuse  = 20
	maxAge = time.Minute
	// forgetAfter is when a tree that nobody has asked for is forgotten.
	forgetAfter = 10 * time.Minute
)

// Meter measures trees and remembers their sizes. Its methods may be called from any goroutine.
type Meter struct {
	life  context.Context
	stop  context.CancelCauseFunc
	walks sync.WaitGroup
	slots chan struct{} // one for each walk that may run

	mu    sync.Mutex // guards what follows; nothing is measured under it
	trees map[string]*reading
	swept time.Time
}

// reading is what is known about one tree.
type reading struct {
	size  Size
	at    time.Time // of the end of the walk; zero: it was not measured yet
	took  time.Duration
	err   error         // of the last walk
	done  chan struct{} // closed when the walk that is under way ends; nil: none is
	asked time.Time
}

// NewMeter returns a Meter; the caller closes it.
func NewMeter() *Meter {
	m := &Meter{slots: make(chan struct{}, max(1, runtime.NumCPU()/2)), trees: map[string]*reading{}, swept: time.Now()}
	m.life, m.stop = context.WithCancelCause(context.Background())
	return m
}

var errClosed = errors.New("the meter is closed")

// Close breaks off all walks and returns when the last of them has ended.
func (m *Meter) Close() error {
	m.stop(errClosed)
	m.walks.Wait()
	return nil
}

// Tree is [Tree] with memory: it also returns when the tree was measured. A size that is known but old is measured anew,
// which the caller waits for only until patience, a context of its own, ends. A size that is not known yet is waited for
// as long as ctx lasts.
func (m *Meter) Tree(ctx, patience context.Context, path string) (Size, time.Time, error) {
	r, known, done := m.reading(path)
	if done == nil {
		return known.size, known.at, known.err
	}
	bored := patience.Done()
	if known.at.IsZero() {
		bored = nil
	}
	select {
	case <-done:
		m.mu.Lock()
		defer m.mu.Unlock()
		return r.size, r.at, r.err
	case <-bored:
		return known.size, known.at, known.err
	case <-ctx.Done():
		return Size{}, time.Time{}, context.Cause(ctx)
	}
}

// reading returns a tree's place in the memory, what is known about it now, and, if that is too old, a channel that is
// closed once it has been measured.
func (m *Meter) reading(path string) (r *reading, known reading, done <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.sweep(now)
	r = m.trees[path]
	if r == nil {
		r = &reading{}
		m.trees[path] = r
	}
	r.asked = now
	if r.done == nil && r.err == nil && !r.at.IsZero() && now.Sub(r.at) < min(r.took*reuse, maxAge) {
		return r, *r, nil
	}
	if r.done == nil {
		r.done = make(chan struct{})
		m.walks.Go(func() { m.measure(path, r) })
	}
	return r, *r, r.done
}

func (m *Meter) measure(path string, r *reading) {
	var size Size
	var took time.Duration
	var err error
	select {
	case m.slots <- struct{}{}:
		began := time.Now()
		size, err = Tree(m.life, path)
		took = time.Since(began)
		<-m.slots
	case <-m.life.Done():
		err = context.Cause(m.life)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.size, r.at, r.took, r.err = size, time.Now(), took, err
	close(r.done)
	r.done = nil
	if errors.Is(err, fs.ErrNotExist) {
		delete(m.trees, path)
	}
}

// sweep forgets the trees that nobody asks for any more. The caller holds mu.
func (m *Meter) sweep(now time.Time) {
	if now.Sub(m.swept) < forgetAfter {
		return
	}
	m.swept = now
	for path, r := range m.trees {
		if r.done == nil && now.Sub(r.asked) > forgetAfter {
			delete(m.trees, path)
		}
	}
}
