package containers

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
)

// stepSummary is a step of a build as a list of containers has it. It is named
// by its build and its number there.
func stepSummary(s *api.BuildProcess) container.Summary {
	out := container.Summary{
		ID: s.Process, Image: "build", Command: visible(strings.Join(s.Command, " ")), Created: s.StartedAt.Unix(),
		Names:  []string{fmt.Sprintf("/%.12s#%d", s.Build, s.Number)},
		Labels: map[string]string{"build": s.Build, "step": s.Name},
	}
	if s.State == api.BuildRunning {
		out.State, out.Status = container.StateRunning, "Up "+units.HumanDuration(time.Since(s.StartedAt))
		return out
	}
	out.State, out.Status = container.StateExited, fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(time.Since(s.EndedAt)))
	if !s.Ended { // it was killed with its build
		out.Status = fmt.Sprintf("Ended with its build %s ago", units.HumanDuration(time.Since(s.EndedAt)))
	}
	return out
}
