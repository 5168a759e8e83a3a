//go:build unix

package command

import (
	"os"
	"syscall"
)

func become(path string, args []string) error { return syscall.Exec(path, args, os.Environ()) }
