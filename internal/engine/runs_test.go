package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
)

// runs shows a container's runs in a few words each.
func (w *world) runs(ref string) []string {
	w.t.Helper()
	list, err := w.ContainerRuns(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		text := fmt.Sprintf("%d %s %d", r.Number, r.Cause, r.ExitCode)
		if r.FinishedAt.IsZero() {
			text = fmt.Sprintf("%d %s goes on", r.Number, r.Cause)
		}
		if r.StartedAt.IsZero() {
			text += " failed"
		}
		if r.Unobserved {
			text += " unobserved"
		}
		out = append(out, text)
	}
	return out
}

func TestRunsOfARestartPolicy(t *testing.T) {
	w := newWorld(t)
	code := 0
	w.runtime.programs["fail"] = func(t *fakeTask) { code++; t.end(Exit{Code: code, Observed: true}) }
	id := w.create("loop", func(r *container.CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 2}
	}, "fail")
	w.start(id)
	eventually(t, "the policy to give up", func() bool { return w.inspect(id).State.Status == container.StateExited })
	want := []string{"1 start 1", "2 restart-policy 2", "3 restart-policy 3"}
	if diff := cmp.Diff(want, w.runs(id)); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	w.close()
	w.open()
	if diff := cmp.Diff(want, w.runs(id)); diff != "" {
		t.Errorf("runs after a restart of the daemon (-want +got):\n%s", diff)
	}
}

func TestRunsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["true"] = func(t *fakeTask) { t.end(Exit{Observed: true}) }
	id := w.create("many", nil, "true")
	for range state.MaxRuns + 3 {
		w.start(id)
		w.wait(id, container.WaitConditionNotRunning)
	}
	list, _ := w.ContainerRuns(id)
	if len(list) != state.MaxRuns || list[0].Number != 4 || list[len(list)-1].Number != state.MaxRuns+3 {
		t.Errorf("%d runs, from %d to %d", len(list), list[0].Number, list[len(list)-1].Number)
	}
}

// A shim and a daemon that were killed leave a run whose end nobody has seen.
func TestRunThatNobodySawEnd(t *testing.T) {
	w := newWorld(t)
	id := w.create("lost", nil, "sleep")
	w.start(id)
	w.close()
	w.runtime.mu.Lock()
	delete(w.runtime.tasks, id)
	w.runtime.mu.Unlock()
	w.open()
	if diff := cmp.Diff([]string{"1 start 137 unobserved"}, w.runs(id)); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

func TestFailedStartIsARun(t *testing.T) {
	w := newWorld(t)
	w.runtime.failing["nosuch"] = fmt.Errorf("it does not start")
	id := w.create("bad", nil, "nosuch")
	if err := w.ContainerStart(t.Context(), id); err == nil {
		t.Fatal("it starts")
	}
	list, _ := w.ContainerRuns(id)
	if diff := cmp.Diff([]string{"1 start 128 failed"}, w.runs(id)); diff != "" || list[0].Error == "" {
		t.Errorf("runs (-want +got):\n%s%+v", diff, list)
	}
}

// Whoever asked is told with each event, also with what followed from it.
func TestEventsHaveActors(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["true"] = func(t *fakeTask) { t.end(Exit{Observed: true}) }
	who := func(pid int32) context.Context {
		return event.WithOrigin(t.Context(), &event.Origin{UID: new(uint32(1000)), PID: pid, Command: []string{"docker"}})
	}
	req := container.CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"sleep"}}, HostConfig: &container.HostConfig{}}
	r, err := w.ContainerCreate(who(1), "web", req, nil)
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { return w.ContainerStart(who(2), "web") },
		func() error { return w.ContainerKill(who(3), "web", "KILL") },
		func() error { w.wait(r.ID, container.WaitConditionNotRunning); return nil },
		func() error { return w.ContainerRemove(who(4), "web", RemoveOptions{}) },
	}
	req.Config.Cmd, req.HostConfig.AutoRemove = []string{"true"}, true
	steps = append(steps, func() error {
		if _, err := w.ContainerCreate(who(5), "job", req, nil); err != nil {
			return err
		}
		if err := w.ContainerStart(who(6), "job"); err != nil {
			return err
		}
		eventually(t, "the job to be removed", func() bool { a := w.actions(); return a[len(a)-1] == "destroy" })
		return nil
	})
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err = w.Events(t.Context(), EventsOptions{Since: time.Unix(1, 0), Until: time.Now(), Filters: Filters{"type": {"container"}}}, func(r event.Record) error {
		text := fmt.Sprintf("%s by %d", r.Action, r.By.PID)
		if r.By.Indirect {
			text += " indirectly"
		}
		got = append(got, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create by 1", "start by 2", "kill by 3", "die by 3", "destroy by 4",
		"create by 5", "start by 6", "die by 6 indirectly", "destroy by 6 indirectly",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A run that the policy began, and that ended, before the daemon that was killed had saved either.
func TestRunOfThePolicyThatWasNotSaved(t *testing.T) {
	w := newWorld(t)
	end := make(chan struct{})
	w.runtime.programs["fail"] = func(t *fakeTask) { <-end; t.end(Exit{Code: 1, Observed: true}) }
	id := w.create("loop", func(r *container.CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 1}
	}, "fail")
	w.start(id)
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	c.update(func(v *view) { v.restartDelay = restartMax }) // it is not to come before the daemon ends
	close(end)
	eventually(t, "the restart to wait", func() bool { return w.inspect(id).State.Status == container.StateRestarting })
	w.close()
	w.runtime.mu.Lock()
	w.runtime.exits[w.stateDir(id)] = Exit{Code: 5, Observed: true, At: time.Now()}
	delete(w.runtime.tasks, id)
	w.runtime.mu.Unlock()
	w.open()
	eventually(t, "it to rest", func() bool { return w.inspect(id).State.Status == container.StateExited })
	if diff := cmp.Diff([]string{"1 start 1", "2 restart-policy 5 failed"}, w.runs(id)); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff) // "failed": its start is not known
	}
}
