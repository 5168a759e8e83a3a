package engine

import (
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/problem"
)

// stepContainer is a step as a container that runs, which no record is kept of: nobody finds it but by [Engine.lookUp].
func (e *Engine) stepContainer(s *step.Step, v *view) *ctr {
	rec, config := *v.Container, *v.Config
	config.Labels = map[string]string{"step": s.Name}
	rec.Name, rec.Config, rec.Created = s.ID[:12], &config, time.Now().UTC()
	if len(s.Process.Args) > 0 {
		rec.Path, rec.Args = s.Process.Args[0], s.Process.Args[1:]
	}
	rec.Platform.OS = "linux"
	rec.Life.Status, rec.Life.StartedAt, rec.Life.Run = container.StateRunning, rec.Created, 1
	c := newCtr(e.deps.State, &rec)
	c.step = s
	c.deleted = true // it is never saved
	close(c.adopted)
	close(c.booted)
	return c
}

// findContainer finds a container, and tells of a step that it is none.
func (e *Engine) findContainer(ref string) (*ctr, error) {
	c, err := e.registry.find(ref)
	if errdefs.IsNotFound(err) && e.steps.match(ref) != nil {
		err = problem.WithHint(conflict("%s is a step of a build, and no container", ref), "exec, top, logs and stats take steps; it ends with its build")
	}
	return c, err
}

// lookUp finds a container, or else a step of a build that runs. It is for what those have in common.
func (e *Engine) lookUp(ref string) (*ctr, error) {
	c, err := e.registry.find(ref)
	if !errdefs.IsNotFound(err) {
		return c, err
	}
	r := e.steps.match(ref)
	if r == nil {
		return nil, err
	}
	select {
	case <-r.task.Done():
		return nil, err
	default:
		return r.ctr, nil
	}
}
