package tty

import (
	"context"
	"os"
	ossignal "os/signal"
	"time"

	"github.com/moby/sys/signal"
)

// forwardLate is when signals are caught that hardly anybody sends to a program
// in its first moments. To catch one takes the runtime some 50 µs, and there
// are sixty.
const forwardLate = 100 * time.Millisecond

// ForwardSignals hands every signal that this process gets to send, by name
// without the SIG prefix, until the returned function is called. Not passed
// on are those that concern this process alone: the death of a child, a
// broken pipe, and the one that the Go runtime uses itself.
//
// Those of forwardFirst are caught at once, the others 100 ms later.
func ForwardSignals(ctx context.Context, send func(ctx context.Context, name string)) (stop func()) {
	signals := make(chan os.Signal, 128)
	ossignal.Notify(signals, forwardFirst...)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		late := time.NewTimer(forwardLate)
		defer late.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-late.C:
				ossignal.Notify(signals)
			case s := <-signals:
				if name := forwardName(s); name != "" {
					send(ctx, name)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
		go ossignal.Stop(signals) // as slow as to catch them, and nobody has to wait for it
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
