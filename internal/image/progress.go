package image

import (
	"slices"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// reporter passes messages on in their order, one at a time, and makes nobody
// wait: transfers hold places that others want, and a client that is stopped
// may not read for hours. Of how far something is, only the newest is kept.
type reporter struct {
	pass func(jsonstream.Message)
	done chan struct{} // closed when all was passed on

	mu    sync.Mutex
	more  sync.Cond
	queue []jsonstream.Message
	ended bool
}

// reportTo returns a reporter to a function, which may be nil. The caller ends
// it.
func reportTo(pass func(jsonstream.Message)) *reporter {
	r := &reporter{pass: pass, done: make(chan struct{})}
	r.more.L = &r.mu
	if pass == nil {
		close(r.done)
		return r
	}
	go r.run() // until end
	return r
}

func (r *reporter) report(m jsonstream.Message) {
	if r.pass == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if isTransient(m) {
		for i, q := range slices.Backward(r.queue) {
			if q.ID != m.ID {
				continue
			}
			if isTransient(q) {
				r.queue[i] = m
				return
			}
			break
		}
	}
	r.queue = append(r.queue, m)
	r.more.Signal()
}

// isTransient tells a message about how far something is.
func isTransient(m jsonstream.Message) bool { return m.Progress != nil && m.Progress.Total > 0 }

func (r *reporter) run() {
	defer close(r.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.queue) == 0 {
			if r.ended {
				return
			}
			r.more.Wait()
		}
		m := r.queue[0]
		r.queue = r.queue[1:]
		r.mu.Unlock()
		r.pass(m)
		r.mu.Lock()
	}
}

// end returns when all has been passed on. Nothing is reported after it.
func (r *reporter) end() {
	r.mu.Lock()
	r.ended = true
	r.more.Signal()
	r.mu.Unlock()
	<-r.done
}
