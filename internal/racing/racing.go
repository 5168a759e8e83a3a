// Package racing has all processes of a program that the race detector is built into
// (go build -race) report what they see. The detector takes from the variable GORACE,
// as its process begins, where to report; by default that is the standard error. Porthole
// starts some of its own processes with neither of both.
package racing
