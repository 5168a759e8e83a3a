//go:build !windows

package client

import (
	"os/exec"
	"syscall"
)

// detach gives the process a session of its own, so that a Ctrl-C meant for the
// command in front does not end the connection it still needs.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}
