// Package exhaust takes from the engine what it lives on, and sees that it says so, lives, loses nothing
// that it can keep, and goes on when it is given back: the shims beside its containers, the disk below its data root,
// descriptors and processes.
//
// Each test is a list of attacks. A run prints what each of them came to.
package exhaust
