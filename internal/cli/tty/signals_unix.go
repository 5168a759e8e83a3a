//go:build unix

package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// isRuntimeSignal: since Go 1.14 the scheduler interrupts threads by SIGURG.
func isRuntimeSignal(s os.Signal) bool { return s == unix.SIGURG }

// forwardFirst are the signals that people and service managers send to a
// program that they have only just started.
var forwardFirst = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}
