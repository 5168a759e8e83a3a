//go:build unix

package tty

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// notifySize returns a channel that receives when the terminal's window has
// changed.
func notifySize(context.Context, *Terminal) (<-chan os.Signal, func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	return changed, func() { signal.Stop(changed) }
}
