//go:build unix

package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// isRuntimeSignal: since Go 1.14 the scheduler interrupts threads by SIGURG.
func isRuntimeSignal(s os.Signal) bool { return s == unix.SIGURG }
