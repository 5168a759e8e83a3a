package tty

import (
	"context"
	"os"
	ossignal "os/signal"

	"github.com/moby/sys/signal"
)

// ForwardSignals hands every signal that this process gets to send, by name
// without the SIG prefix, until the returned function is called. Not passed
// on are those that concern this process alone: the death of a child, a
// broken pipe, and the one that the Go runtime uses itself.
func ForwardSignals(ctx context.Context, send func(ctx context.Context, name string)) (stop func()) {
	signals := make(chan os.Signal, 128)
	ossignal.Notify(signals)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				if name := forwardName(s); name != "" {
					send(ctx, name)
				}
			}
		}
	}()
	return func() {
		ossignal.Stop(signals)
		cancel()
		<-done
	}
}

func forwardName(s os.Signal) string {
	if s == signal.SIGCHLD || s == signal.SIGPIPE || isRuntimeSignal(s) {
		return ""
	}
	for name, n := range signal.SignalMap {
		if n == s {
			return name
		}
	}
	return ""
}
