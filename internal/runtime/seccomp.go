package runtime

import (
	"fmt"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/seccomp"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/sys"
)

// compileSeccomp turns a profile into the kernel's program. A profile that
// wants its notifications sent somewhere is refused: nobody would answer.
func compileSeccomp(p *specs.LinuxSeccomp) (*plan.Seccomp, error) {
	if p.ListenerPath != "" || p.ListenerMetadata != "" {
		return nil, unsupported("seccomp: a notification listener is not supported")
	}
	filter, err := seccomp.Compile(p, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	flags, err := seccomp.Flags(p)
	if err != nil {
		return nil, err
	}
	return &plan.Seccomp{Program: sys.SeccompProgram(filter), Flags: flags}, nil
}
