package main

import (
	"github.com/portholehq/porthole/internal/runtime/stage"
)

// runStage makes this process a container's: it ends in the user's program.
func runStage([]string) int {
	nameProcess(stageName)
	stage.Main()
	return 1 // never reached
}
