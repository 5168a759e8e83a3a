// Command porthole-shim is the one binary that is on the container's side: the
// shim, the stage and the init process.
//
//	porthole-shim serve            stand beside a container (internal/shim)
//	porthole-shim stage            become a container's process (internal/runtime/stage)
//	porthole-shim init -- CMD ARG  be the container's PID 1 and reap (internal/shim/reaper)
//	porthole-shim limit LIMITS PATH ARG0 ARG  set limits and become PATH (init starts it)
//	porthole-shim forker           fork shims for a large daemon (internal/runtime/forker)
//	porthole-shim version
//	porthole-shim create, start, state, kill, delete, ...  be an OCI runtime (cmd/porthole-oci)
//
// All but version and the last are started by Porthole itself, with descriptors that mean
// something; by hand they are of no use.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/portholehq/porthole/internal/sys"
)

// version is set by the linker (make build).
var version = "dev"

// stageName is how a stage shows in the process table.
const stageName = "porthole-stage"

// verbs is the whole surface. A verb gets the arguments after its name and
// returns the exit status.
var verbs = map[string]func(args []string) int{
	"serve":   serve,
	"stage":   runStage,
	"init":    runInit,
	"limit":   runLimit,
	"forker":  runForker,
	"version": printVersion,
}

func init() { //nolint:gochecknoinits // nothing else is certain to run on the main thread
	// The main thread stands for the process in /proc: a stage that has put another one into its groups would be shown
	// outside of them until exec, and no exec may change what is shown of a shim. The main goroutine is on it for certain
	// while packages are initialized.
	if isStage(os.Args) || len(os.Args) > 1 && os.Args[1] == "serve" {
		runtime.LockOSThread()
	}
}

func isStage(args []string) bool { return len(args) > 0 && args[0] == stageName }

func main() {
	// Nothing goes before this: each verb is a process in everybody's way.
	if isStage(os.Args) {
		os.Exit(runStage(os.Args[1:]))
	}
	if isOCI(os.Args[1:]) {
		os.Exit(becomeOCI(os.Args[1:]))
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: porthole-shim serve | stage | init -- COMMAND [ARG...] | version")
		os.Exit(125)
	}
	os.Exit(verbs[os.Args[1]](os.Args[2:]))
}

func printVersion([]string) int {
	fmt.Println("porthole-shim", version)
	return 0
}

// complain reports err as the verb's end.
func complain(verb string, err error) int {
	fmt.Fprintf(os.Stderr, "porthole-shim %s: %v\n", verb, err)
	return 125
}

// nameProcess gives a process that was executed by descriptor a name of its own
// in the process table, where else the descriptor's number would stand.
func nameProcess(name string) {
	_ = sys.SetName(name) // for people only
}
