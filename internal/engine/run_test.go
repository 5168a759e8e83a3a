package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/runtime"
)

// runOptions are those of an attached run.
func runOptions(args ...string) RunOptions {
	return RunOptions{
		Name: "box", Attach: AttachOptions{Stdout: true, Stderr: true},
		Request: container.CreateRequest{Config: &container.Config{Image: "busybox", Cmd: args}, HostConfig: &container.HostConfig{NetworkMode: "bridge"}},
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rm     bool
		detach bool
		events []string
	}{
		{name: "attached", events: []string{"create", "attach", "start", "die"}},
		{name: "attached with --rm", rm: true, events: []string{"create", "attach", "start", "die", "destroy"}},
		{name: "detached", detach: true, events: []string{"create", "start"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.runtime.programs["five"] = func(t *fakeTask) { t.end(Exit{Code: 5}) }
			o := runOptions("five")
			if tt.detach {
				o = runOptions("sleep")
				o.Attach = AttachOptions{}
			}
			o.Request.HostConfig.AutoRemove = tt.rm
			client, server := pipe(t)
			end, err := w.ContainerRun(t.Context(), o, func(c container.CreateResponse) (Stream, error) {
				if s := w.inspect(c.ID).State; s.Status != container.StateCreated {
					t.Errorf("the client is told of a container that is %s", s.Status)
				}
				if recs, _, err := w.deps.State.Containers(); err != nil || len(recs) != 1 {
					t.Errorf("the client is told of a container that is not saved: %v %v", recs, err)
				}
				if tt.detach {
					return nil, nil
				}
				return server, nil
			})
			want := RunEnd{Exit: container.WaitResponse{StatusCode: 5}}
			if tt.detach {
				want = RunEnd{}
			}
			if diff := cmp.Diff(want, end); diff != "" || err != nil {
				t.Errorf("%v, end (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff(tt.events, w.actions()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			client.Close()
			if err := w.ContainerRemove(t.Context(), "box", RemoveOptions{Force: true, Volumes: true}); err != nil && !tt.rm {
				t.Error(err)
			}
			eventually(t, "the end of what was beside the container", func() bool { return w.runtime.count() == 0 })
			w.empty()
		})
	}
}

func TestRunOfWhatCannotBeStarted(t *testing.T) {
	w := newWorld(t)
	w.runtime.failing["nope"] = &runtime.StartError{Message: `exec: "nope": executable file not found in $PATH`}
	o := runOptions("nope")
	_, server := pipe(t)
	made := func(container.CreateResponse) (Stream, error) { return server, nil }
	end, err := w.ContainerRun(t.Context(), o, made)
	if err != nil || !errdefs.IsInvalidArgument(end.Start) {
		t.Errorf("%v, start %v", err, end.Start)
	}
	if s := w.inspect("box").State; s.Status != container.StateCreated || s.ExitCode != 127 || s.Error != end.Start.Error() {
		t.Errorf("state %+v", s)
	}
	if _, err := w.ContainerRun(t.Context(), o, made); !errdefs.IsConflict(err) {
		t.Errorf("a second container of the name: %v", err)
	}
	if err := w.ContainerRemove(t.Context(), "box", RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	o.Request.HostConfig.AutoRemove = true
	if end, err = w.ContainerRun(t.Context(), o, made); err != nil || end.Start == nil {
		t.Errorf("%v, start %v", err, end.Start)
	}
	w.empty()
}

// refusingRuntime fails before the container's process exists.
type refusingRuntime struct{ *fakeRuntime }

func (refusingRuntime) Create(context.Context, Bundle) (Task, error) {
	return nil, errors.New("no such device")
}

func TestRunThatLeavesNothing(t *testing.T) {
	for name, change := range map[string]func(w *world, o *RunOptions) context.Context{
		"no such image": func(w *world, o *RunOptions) context.Context { o.Request.Image = "nginx"; return w.t.Context() },
		"detach keys":   func(w *world, o *RunOptions) context.Context { o.Attach.DetachKeys = "ctrl-"; return w.t.Context() },
		"client that has gone": func(w *world, _ *RunOptions) context.Context {
			ctx, cancel := context.WithCancel(w.t.Context())
			cancel()
			return ctx
		},
		"client that has gone before a start that fails": func(w *world, _ *RunOptions) context.Context {
			w.Engine.deps.Runtime = refusingRuntime{w.runtime}
			ctx, cancel := context.WithCancel(w.t.Context())
			cancel()
			return ctx
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := runOptions("sleep")
			ctx := change(w, &o)
			_, err := w.ContainerRun(ctx, o, func(container.CreateResponse) (Stream, error) {
				t.Error("the client is told of a container")
				return nil, errors.New("no")
			})
			if err == nil {
				t.Fatal("no error")
			}
			w.empty()
			if list, err := w.Deaths(DeathsOptions{}); err != nil || len(list) > 0 {
				t.Errorf("death records of a container that nobody was told of: %v %v", list, err)
			}
		})
	}
}

func TestRunStartFailsEarly(t *testing.T) {
	w := newWorld(t)
	w.Engine.deps.Runtime = refusingRuntime{w.runtime}
	told := false
	end, err := w.ContainerRun(t.Context(), runOptions("sleep"), func(container.CreateResponse) (Stream, error) {
		told = true
		_, server := pipe(t)
		return server, nil
	})
	if err != nil || end.Start == nil || !told {
		t.Errorf("%v, start %v, told %v", err, end.Start, told)
	}
	if s := w.inspect("box").State; s.Status != container.StateCreated || s.Error != "no such device" {
		t.Errorf("state %+v", s)
	}
}

func TestRealRun(t *testing.T) {
	w := newRealWorld(t)
	o := runOptions("sh", "-c", "cat; echo err >&2; exit 4")
	o.Request.HostConfig = &container.HostConfig{NetworkMode: "none", AutoRemove: true}
	o.Request.OpenStdin, o.Request.StdinOnce, o.Attach.Stdin = true, true, true
	client, server := pipe(t)
	if _, err := io.WriteString(client, "in"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var id string
	end, err := w.ContainerRun(t.Context(), o, func(c container.CreateResponse) (Stream, error) {
		id = c.ID
		return server, nil
	})
	if err != nil || end.Start != nil || end.Exit.StatusCode != 4 {
		t.Errorf("%v %+v", err, end)
	}
	server.Close()
	var stdout, stderr strings.Builder // two pipes have no order between them
	if _, err := stdcopy.StdCopy(&stdout, &stderr, client); err != nil || stdout.String() != "in" || stderr.String() != "err\n" {
		t.Errorf("output %q, %q, %v", &stdout, &stderr, err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "containers", id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files of a container that is gone: %v", err)
	}
}

// TestKillOfOneThatOnlyJustRuns sends a signal when the program runs but its start is not over.
func TestKillOfOneThatOnlyJustRuns(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	c, err := w.registry.find("box")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	done := c.going()
	if err := w.ContainerKill(gone, "box", "TERM"); !errdefs.IsConflict(err) {
		t.Errorf("kill by a client that has gone: %v", err)
	}
	killed := make(chan error, 1)
	go func() { killed <- w.ContainerKill(t.Context(), "box", "TERM") }()
	select {
	case err := <-killed:
		t.Errorf("kill did not wait: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	done()
	if err := <-killed; !errdefs.IsConflict(err) {
		t.Errorf("kill of one whose start failed: %v", err)
	}
	done = c.going()
	go func() { killed <- w.ContainerKill(t.Context(), "box", "TERM") }()
	w.start(id) // its own mark takes the place of this one
	done()
	if err := <-killed; err != nil {
		t.Error(err)
	}
	if code := w.wait("box", container.WaitConditionNotRunning); code != 143 {
		t.Errorf("exit code %d", code)
	}
}
