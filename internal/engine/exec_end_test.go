package engine

import (
	"net"
	"sync"
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

// stuckStream is the stream of a client that does not read: nothing more fits in.
type stuckStream struct {
	Stream
	once    sync.Once
	entered chan struct{} // closed when something is written
	gone    chan struct{} // closed when the client has gone
}

func (s *stuckStream) Write([]byte) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.gone
	return 0, net.ErrClosed
}

// TestEndOfAnExecWhoseClientDoesNotRead: to all others it has ended.
func TestEndOfAnExecWhoseClientDoesNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	x, err := w.ContainerExecCreate(t.Context(), id, container.ExecCreateRequest{Cmd: []string{"echo", "much"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	client, server := pipe(t)
	stuck := &stuckStream{Stream: server, entered: make(chan struct{}), gone: make(chan struct{})}
	over := make(chan error, 1)
	go func() {
		over <- w.ContainerExecStart(t.Context(), x, ExecStartOptions{}, func() (Stream, error) { return stuck, nil })
	}()
	<-stuck.entered
	eventually(t, "its end", func() bool {
		r, err := w.ContainerExecInspect(t.Context(), x)
		return err == nil && !r.Running && r.ExitCode != nil && *r.ExitCode == 0
	})
	select {
	case err := <-over:
		t.Fatalf("the client is sent away: %v", err)
	default:
	}
	close(stuck.gone)
	client.Close()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
