package oci

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/runtime"
)

// Start has a created container run its program. It returns when that was executed. A
// hook that fails ends the container, and nothing is left of it.
func (r *Runtime) Start(id string) error {
	c, unlock, err := r.open(id)
	if err != nil {
		return err
	}
	defer unlock()
	switch status := c.status(); status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	case specs.StateCreating, specs.StateRunning, paused:
		return fmt.Errorf("cannot start a container in the %s state", status)
	}
	s, err := c.config()
	if err != nil {
		return err
	}
	orders, err := c.encodeHooks(s.Hooks, startContainer, specs.StateCreated)
	if err != nil {
		return err
	}
	if err := runtime.StartBare(c.file(socketFile), orders); err != nil {
		err = fmt.Errorf("start container %s: %w", id, err)
		if orders != nil && !errors.Is(err, runtime.ErrNotWaiting) {
			return c.stopAfter(s.Hooks, err)
		}
		return err
	}
	c.Started = true
	if err := c.save(); err != nil {
		return err
	}
	if err := c.runHooks(s.Hooks, poststart, specs.StateRunning); err != nil {
		return c.stopAfter(s.Hooks, err)
	}
	return nil
}
