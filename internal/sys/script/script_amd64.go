package script

// start clones a child, which does n calls and ends; it returns what clone3
// returned to the parent.
//
//go:noescape
func start(args *cloneArgs, size uintptr, calls *call, n uintptr) uintptr
