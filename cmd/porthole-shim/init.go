package main

import (
	"github.com/portholehq/porthole/internal/shim/reaper"
)

// runInit is what --init puts before the container's command.
func runInit(args []string) int {
	nameProcess("porthole-init")
	return reaper.Main(args)
}
