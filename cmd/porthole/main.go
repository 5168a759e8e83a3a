// Command porthole is the command line of the Porthole container engine.
package main

import (
	"os"

	"github.com/portholehq/porthole/internal/cli"
	"github.com/portholehq/porthole/internal/cli/system"
)

// Set by the linker; see the Makefile.
var version, commit, built string

func main() {
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Exit: os.Exit, Program: os.Args[0]}
	os.Exit(cli.Main(streams, os.Args[1:], system.ThisBuild(version, commit, built)))
}
