package main

import (
	"github.com/portholehq/porthole/internal/shim/reaper"
)

// runInit is what --init puts before the container's command.
func runInit(args []string) int {
	nameProcess("porthole-init")
	return reaper.Main(args)
}

// runLimit stands between init and a command with limits that init could not live with.
func runLimit(args []string) int { return reaper.Become(args) }
