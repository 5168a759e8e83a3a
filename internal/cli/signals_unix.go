//go:build unix

package cli

import (
	"os"
	"syscall"
)

// endSignals end a command. SIGHUP and SIGQUIT are among them so that the
// terminal is restored.
var endSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
