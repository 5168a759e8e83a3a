package oci

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/runtime/hook"
)

// The kinds of hooks, as config.json has them.
const (
	prestart        = "prestart"
	createRuntime   = "createRuntime"
	createContainer = "createContainer"
	startContainer  = "startContainer"
	poststart       = "poststart"
	poststop        = "poststop"
)

// hookKinds are in the order in which they are run.
var hookKinds = []string{prestart, createRuntime, createContainer, startContainer, poststart, poststop}

func hooksOf(h *specs.Hooks, kind string) []hook.Hook {
	if h == nil {
		return nil
	}
	var from []specs.Hook
	switch kind {
	case prestart:
		from = h.Prestart //nolint:staticcheck // the old name counts as well
	case createRuntime:
		from = h.CreateRuntime
	case createContainer:
		from = h.CreateContainer
	case startContainer:
		from = h.StartContainer
	case poststart:
		from = h.Poststart
	case poststop:
		from = h.Poststop
	}
	var list []hook.Hook
	for _, x := range from {
		list = append(list, hook.Hook{Path: x.Path, Args: x.Args, Env: x.Env, Timeout: x.Timeout})
	}
	return list
}

// orders are the hooks of one kind, with the state that they are told.
func (c *container) orders(h *specs.Hooks, kind string, status specs.ContainerState) (*hook.Orders, error) {
	state, err := json.Marshal(c.state(status).State)
	if err != nil {
		return nil, err
	}
	return &hook.Orders{Kind: kind, Hooks: hooksOf(h, kind), State: state}, nil
}

// runHooks runs the hooks of one kind in this process's namespaces.
func (c *container) runHooks(h *specs.Hooks, kind string, status specs.ContainerState) error {
	o, err := c.orders(h, kind, status)
	if err != nil {
		return err
	}
	return o.Run()
}

// encodeHooks are hooks for the stage to run, nil if there are none.
func (c *container) encodeHooks(h *specs.Hooks, kind string, status specs.ContainerState) ([]byte, error) {
	o, err := c.orders(h, kind, status)
	if err != nil || len(o.Hooks) == 0 {
		return nil, err
	}
	return json.Marshal(o)
}

// poststopHooks run all of them, whatever one comes to: each failure is a warning.
func (c *container) poststopHooks(h *specs.Hooks) {
	o, err := c.orders(h, poststop, specs.StateStopped)
	if err != nil {
		c.rt.warn("container %s: %v", c.ID, err)
		return
	}
	for i := range o.Hooks {
		if err := o.RunOne(i); err != nil {
			c.rt.warn("container %s: %v", c.ID, err)
		}
	}
}

// stopAfter destroys a container whose hook has failed, as the specification has it,
// and returns the error.
func (c *container) stopAfter(h *specs.Hooks, cause error) error {
	if err := c.destroy(h); err != nil {
		return errors.Join(cause, fmt.Errorf("destroy container: %w", err))
	}
	return cause
}
