//go:build failpoint

package main

import "github.com/portholehq/porthole/internal/failpoint/arm"

// Nothing may be written before the points are set. See internal/failpoint.
func init() { arm.FromEnvironment() } //nolint:gochecknoinits // main must not know of it
