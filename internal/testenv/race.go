//go:build race

package testenv

// Race tells that the race detector is at work, which makes everything some ten times slower.
const Race = true
