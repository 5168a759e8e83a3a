package engine

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// TestExitCodeOfAnExecOutlivesItsContainer: the client asks for it when it has seen the end of the output, and may come too
// late for the container.
func TestExitCodeOfAnExecOutlivesItsContainer(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	var execs []string
	for range 2 {
		x, err := w.ContainerExecCreate(t.Context(), id, container.ExecCreateRequest{Cmd: []string{"serve"}})
		if err != nil {
			t.Fatal(err)
		}
		execs = append(execs, x)
	}
	if err := w.ContainerExecStart(t.Context(), execs[0], ExecStartOptions{Detach: true}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the exec", func() bool {
		x, err := w.ContainerExecInspect(t.Context(), execs[0])
		if err != nil {
			t.Fatal(err)
		}
		return !x.Running && x.ExitCode != nil && *x.ExitCode == 137
	})
	if _, err := w.ContainerExecInspect(t.Context(), execs[1]); !errdefs.IsNotFound(err) {
		t.Errorf("one that was never started: %v", err)
	}
	w.empty()
}

// TestEndOfAnExecWhoseClientDoesNotRead: to all others it has ended.
func TestEndOfAnExecWhoseClientDoesNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	x, err := w.ContainerExecCreate(t.Context(), id, container.ExecCreateRequest{Cmd: []string{"flood"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	client, server := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := make(chan error, 1)
	go func() {
		over <- w.ContainerExecStart(ctx, x, ExecStartOptions{}, func() (Stream, error) { return server, nil })
	}()
	eventually(t, "the exec", func() bool { return len(w.inspect(id).ExecIDs) == 1 })
	w.runtime.task(id).end(Exit{Code: 137})
	eventually(t, "its end", func() bool {
		r, err := w.ContainerExecInspect(t.Context(), x)
		return err == nil && !r.Running && r.ExitCode != nil && *r.ExitCode == 137
	})
	select {
	case err := <-over:
		t.Errorf("the client is sent away: %v", err)
	default:
	}
	client.Close()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
