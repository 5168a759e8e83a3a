package runtime

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/runtime/plan"
)

// compileSeccomp turns a profile into the kernel's program.
func compileSeccomp(p *specs.LinuxSeccomp) (*plan.Seccomp, error) {
	return nil, fmt.Errorf("seccomp: %w", errors.ErrUnsupported)
}
