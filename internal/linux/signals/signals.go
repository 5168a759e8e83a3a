// Package signals reads the names and numbers of signals as users write them.
package signals

import (
	"fmt"
	"runtime"
	"syscall"

	"github.com/moby/sys/signal"
)

// Last is the greatest number of a signal, _NSIG of Linux.
const Last = 64

// Parse reads a signal: its number from 1 to Last, or its name, with or without SIG. Errors are worded as Docker's.
func Parse(s string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, err
	}
	if sig < 1 || sig > Last {
		return 0, fmt.Errorf("the %s daemon does not support signal %d", runtime.GOOS, int(sig))
	}
	return sig, nil
}
