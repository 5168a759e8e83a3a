package tty

import (
	"context"
	"log/slog"
	"time"
)

// Resize tells the daemon the size of a terminal in characters.
type Resize func(ctx context.Context, height, width uint) error

// Follow passes the size of the terminal on now and whenever it changes,
// until ctx ends. The first attempts may come before the process has its
// terminal and are repeated for a short while; failed is called if none of
// them succeeds.
func (t *Terminal) Follow(ctx context.Context, resize Resize, log *slog.Logger, failed func()) {
	changed, stop := notifySize(ctx, t)
	go func() {
		defer stop()
		if !t.firstSize(ctx, resize) && ctx.Err() == nil {
			failed()
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			if err := t.pass(ctx, resize); err != nil && log != nil {
				log.Debug("resize terminal", "err", err)
			}
		}
	}()
}

func (t *Terminal) firstSize(ctx context.Context, resize Resize) bool {
	const attempts = 11
	for n := range attempts {
		if t.pass(ctx, resize) == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Duration(n+1) * 10 * time.Millisecond):
		}
	}
	return false
}

func (t *Terminal) pass(ctx context.Context, resize Resize) error {
	height, width := t.Size()
	if height == 0 && width == 0 {
		return nil
	}
	return resize(ctx, height, width)
}
