//go:build failpoint

package main

import (
	"fmt"
	"os"

	"github.com/portholehq/porthole/internal/failpoint/arm"
)

// Nothing may be written before the points are set. See internal/failpoint.
func init() { //nolint:gochecknoinits // main must not know of it
	if err := arm.FromEnvironment(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
}
