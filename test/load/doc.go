// Package load puts weight on one daemon: many containers at once, many starts
// one after the other, many clients that follow and some that do not read, and
// all kinds of work for a while. What must hold: everything that was asked for
// was done, the daemon's memory, descriptors and goroutines go back to where
// they were, and nothing is left.
//
// The figures (starts, answers and memory at 1, 100 and 500 containers) are
// printed, not judged: a machine may be slow. Sizes are by environment, see
// CONTRIBUTING.md; `make load` and `make soak` take the large ones.
package load
