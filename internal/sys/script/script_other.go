//go:build !amd64

package script

// start is written for amd64 only; Start says so.
func start(*cloneArgs, uintptr, *call, uintptr) uintptr {
	panic("script: not made for this architecture")
}
