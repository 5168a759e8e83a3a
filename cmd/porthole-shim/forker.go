package main

import (
	"errors"
	"io"

	"github.com/portholehq/porthole/internal/runtime/forker"
)

// forkerFD is where a forker finds its socket.
const forkerFD = 3

// runForker forks shims for a daemon until that has gone.
func runForker([]string) int {
	if err := forker.Serve(forkerFD); err != nil && !errors.Is(err, io.EOF) {
		return complain(forker.Verb, err)
	}
	return 0
}
