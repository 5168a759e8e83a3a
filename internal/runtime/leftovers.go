package runtime

import (
	"context"
	"fmt"
	"sync"

	"github.com/portholehq/porthole/internal/retry"
)

// leftovers are the runs of which something could not be removed, by container: a process without descriptors or memory
// cannot take back all that it has made. It is tried again in the background, and before the container runs anew.
type leftovers struct {
	mu   sync.Mutex
	byID map[string]*Container
	life context.Context // of the background work
	end  context.CancelFunc
}

func newLeftovers() leftovers {
	life, end := context.WithCancel(context.Background())
	return leftovers{byID: map[string]*Container{}, life: life, end: end}
}

// removeLater removes in the background what is left of c.
func (l *leftovers) removeLater(c *Container) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[c.id] == c {
		return
	}
	l.byID[c.id] = c
	go retry.Until(l.life.Done(), func() error { return l.remove(l.life, c) })
}

// removeNow removes what is left of earlier runs of a container. Once it has returned nil, nothing in the background
// touches what has the container's name.
func (l *leftovers) removeNow(ctx context.Context, id string) error {
	l.mu.Lock()
	c := l.byID[id]
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	if err := l.remove(ctx, c); err != nil {
		return fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	return nil
}

func (l *leftovers) remove(ctx context.Context, c *Container) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	if err := c.remove(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[c.id] == c {
		delete(l.byID, c.id)
	}
	return nil
}
