package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/problem"
)

// ContainerRename gives a container another name.
func (e *Engine) ContainerRename(ctx context.Context, ref, name string) error {
	if ref == "" || strings.TrimPrefix(name, "/") == "" {
		return invalid("Neither old nor new names may be empty")
	}
	c, done, err := e.operate(ctx, "rename", ref)
	if err != nil {
		return err
	}
	defer done()
	release, err := c.turn.take(ctx, "rename")
	if err != nil {
		return err
	}
	defer release()
	select {
	case <-c.gone:
		return errNoSuchContainer(ref)
	default:
	}
	old := c.view().Name
	if strings.TrimPrefix(name, "/") == old {
		return invalid("Renaming a container with the same name as its current name")
	}
	name, err = e.registry.reserve("/"+strings.TrimPrefix(name, "/"), c.id)
	if err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err)
	}
	err = e.saveOrUndo(ctx, c, func(v *view) { v.Name = name }, func(v *view) { v.Name = old })
	if err != nil {
		e.registry.release(name, c.id)
		return err
	}
	e.registry.release(old, c.id)
	e.renamed(ctx, c)
	e.emit(ctx, c.view(), events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}

// saveOrUndo makes a change of the saved part and returns when it is on disk. What could not be saved does not hold: undo
// takes it back.
func (e *Engine) saveOrUndo(ctx context.Context, c *ctr, change, undo func(*view)) error {
	err := c.updateSaved(change)
	if err == nil {
		err = e.deps.State.Flush(context.WithoutCancel(ctx))
	}
	if err != nil {
		e.saved(c, c.updateSaved(undo))
	}
	return err
}

// renamed makes a running container known on its networks by its new name.
func (e *Engine) renamed(ctx context.Context, c *ctr) {
	v := c.view()
	if v.pid() == 0 || !hasResolver(v) {
		return
	}
	live := map[string]*mobynet.EndpointSettings{}
	for name, es := range v.endpoints {
		live[name] = es.Copy()
		if !isPredefined(name) {
			live[name].DNSNames = dnsNames(v, es)
		}
	}
	published, err := e.serve(ctx, v, v.task, live)
	if err != nil {
		e.log.Error("container is known on its networks by its old name only", "container", v.ID, "err", err)
		return
	}
	c.update(func(v *view) { v.endpoints, v.published = live, published })
}

// ContainerResize sets the size of a container's terminal.
func (e *Engine) ContainerResize(ctx context.Context, ref string, height, width uint) error {
	c, done, err := e.operate(ctx, "resize", ref)
	if err != nil {
		return err
	}
	defer done()
	v := c.view()
	if v.task == nil || !v.live() {
		return errNoTask(v)
	}
	if err := v.task.Resize(ctx, uint16(height), uint16(width)); err != nil {
		return resizeError(err)
	}
	e.emit(ctx, v, events.ActionResize, map[string]string{"height": fmt.Sprint(height), "width": fmt.Sprint(width)})
	return nil
}

// resizeError gives the class to what a process without a terminal answers.
func resizeError(err error) error {
	if errors.Is(err, unix.ENOTTY) {
		return problem.WithClass(errdefs.ErrConflict, err)
	}
	return err
}

// ContainerTTY tells whether the container has a terminal, which decides the framing of its streams.
func (e *Engine) ContainerTTY(ref string) (bool, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return false, err
	}
	return c.view().config().Tty, nil
}
