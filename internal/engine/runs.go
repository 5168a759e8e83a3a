package engine

import "github.com/portholehq/porthole/internal/engine/state"

// ContainerRuns returns the last runs of a container, the oldest first. The caller must not change them. A container that
// has runs but no longer all of them begins with a number above 1.
func (e *Engine) ContainerRuns(ref string) ([]state.Run, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return nil, err
	}
	return c.view().Life.Runs, nil
}
