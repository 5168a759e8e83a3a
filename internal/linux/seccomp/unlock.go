package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
)

// Unlocking is the capability with which Docker's default profile would let a call
// through whatever its arguments, which it does not with those of the facts. Ok is
// false if there is none, or if it lets the call through already.
func Unlocking(call string, f Facts) (cap caps.Cap, ok bool) {
	if lets(call, f) {
		return 0, false
	}
	for c := caps.Cap(0); c <= caps.Newest; c++ {
		if slices.Contains(f.Capabilities, c.String()) {
			continue
		}
		with := f
		with.Capabilities = append(slices.Clone(f.Capabilities), c.String())
		if lets(call, with) {
			return c, true
		}
	}
	return 0, false
}

// lets tells whether the profile lets a call through whatever its arguments.
func lets(call string, f Facts) bool {
	profile, err := Default(f)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(profile.Syscalls, func(r specs.LinuxSyscall) bool {
		return r.Action == specs.ActAllow && len(r.Args) == 0 && slices.Contains(r.Names, call)
	})
}
