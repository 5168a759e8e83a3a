package engine

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// TestFullDisk: what cannot be saved is refused and does not hold, but for a stop, which cannot be taken back.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	id := w.create("old", nil, "sleep")
	w.start(id)
	if err := w.deps.State.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	full.Store(true)
	w.deps.State.FailPoint(func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := w.ContainerRename(t.Context(), id, "new"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("rename: %v", err)
	}
	if name := w.inspect("old").Name; name != "/old" {
		t.Errorf("after a rename that failed it is called %s", name)
	}
	_, err := w.ContainerUpdate(t.Context(), id, container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways}})
	if !errors.Is(err, syscall.ENOSPC) || w.inspect(id).HostConfig.RestartPolicy.Name == container.RestartPolicyAlways {
		t.Errorf("update: %v, policy %q", err, w.inspect(id).HostConfig.RestartPolicy.Name)
	}
	if err := w.ContainerStop(t.Context(), id, StopOptions{}); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, a := range w.actions() {
		if a == "rename" || a == "update" {
			t.Errorf("event %s of what did not happen", a)
		}
	}
	full.Store(false)
	if err := w.ContainerRename(t.Context(), id, "new"); err != nil {
		t.Errorf("rename once there is room: %v", err)
	}
	w.restart()
	if s := w.inspect("new").State; s.Status != container.StateExited {
		t.Errorf("with the next daemon: %+v", s)
	}
	if err := w.ContainerRemove(t.Context(), "new", RemoveOptions{Volumes: true}); err != nil {
		t.Error(err)
	}
	w.empty()
}
