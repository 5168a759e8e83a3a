package engine

import (
	"context"
	"sync"
)

// toolUse counts the debug sessions of each container. What the last one has left running is ended with it; a session
// that comes meanwhile waits for that.
type toolUse struct {
	mu     sync.Mutex
	inside map[string]*toolUsers
}

type toolUsers struct {
	n      int
	ending chan struct{} // closed when what was left has been ended; nil: nothing is being ended
}

// enter counts one more session of a container. leave, to be called once, counts it off and ends what is left if it was
// the last.
func (t *toolUse) enter(ctx context.Context, id string, end func()) (leave func(), err error) {
	for {
		t.mu.Lock()
		u := t.inside[id]
		if u == nil {
			if t.inside == nil {
				t.inside = map[string]*toolUsers{}
			}
			u = &toolUsers{}
			t.inside[id] = u
		}
		if u.ending == nil {
			u.n++
			t.mu.Unlock()
			return func() { t.leave(id, u, end) }, nil
		}
		t.mu.Unlock()
		select {
		case <-u.ending:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (t *toolUse) leave(id string, u *toolUsers, end func()) {
	t.mu.Lock()
	u.n--
	last := u.n == 0
	if last {
		u.ending = make(chan struct{})
	}
	t.mu.Unlock()
	if !last {
		return
	}
	end()
	t.mu.Lock()
	delete(t.inside, id)
	t.mu.Unlock()
	close(u.ending)
}
