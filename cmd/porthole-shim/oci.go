package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ociCommands are those of the OCI runtime's command line, which is another program: a
// shim is started with every container, and does not pay for what it never uses.
var ociCommands = []string{
	"create", "start", "state", "kill", "delete", "exec", "ps", "list", "pause", "resume", "update", "events", "spec", "features",
}

// isOCI says whether the arguments are for the OCI runtime: a command of its, or one of
// the options that go before.
func isOCI(args []string) bool {
	return len(args) > 0 && (slices.Contains(ociCommands, args[0]) || strings.HasPrefix(args[0], "--"))
}

// becomeOCI executes porthole-oci from beside this program.
func becomeOCI(args []string) int {
	self, err := os.Executable()
	if err != nil {
		return complain("oci", err)
	}
	program := filepath.Join(filepath.Dir(self), "porthole-oci")
	err = syscall.Exec(program, append([]string{program}, args...), os.Environ())
	return complain("oci", &os.PathError{Op: "exec", Path: program, Err: err})
}
