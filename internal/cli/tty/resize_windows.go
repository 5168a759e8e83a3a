package tty

import (
	"context"
	"os"
	"time"
)

// notifySize polls: a console has no signal for a changed window.
func notifySize(ctx context.Context, t *Terminal) (<-chan os.Signal, func()) {
	changed := make(chan os.Signal, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		oldHeight, oldWidth := t.Size()
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			height, width := t.Size()
			if height != oldHeight || width != oldWidth {
				select {
				case changed <- nil:
				default:
				}
			}
			oldHeight, oldWidth = height, width
		}
	}()
	return changed, stop
}
