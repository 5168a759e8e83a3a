package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// restart ends the daemon and starts another.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

func TestRunningContainersAreAdopted(t *testing.T) {
	w := newWorld(t)
	run, paused := w.create("run", nil, "sleep"), w.create("paused", nil, "sleep")
	w.start(run)
	w.start(paused)
	if err := w.ContainerPause(t.Context(), paused); err != nil {
		t.Fatal(err)
	}
	before := w.inspect(run)
	w.restart()
	if diff := cmp.Diff(before.State, w.inspect(run).State); diff != "" {
		t.Errorf("state (-before +after):\n%s", diff)
	}
	if got := w.inspect(run).NetworkSettings.Networks["bridge"].IPAddress.String(); got != "172.20.0.2" {
		t.Errorf("address after adoption: %s", got)
	}
	if s := w.inspect(paused).State; s.Status != container.StatePaused {
		t.Errorf("paused container: %+v", s)
	}
	for _, ref := range []string{"run", "paused"} {
		if err := w.ContainerRemove(t.Context(), ref, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	w.empty()
}

// vanish makes a task end while no daemon looks, as its shim would record it.
func (w *world) vanish(id string, code int, at time.Time) {
	w.runtime.mu.Lock()
	defer w.runtime.mu.Unlock()
	delete(w.runtime.tasks, id)
	w.runtime.exits[filepath.Join(w.dir, "containers", id, "shim")] = Exit{Code: code, At: at, Observed: true}
}

func TestExitsMeanwhileAreNoted(t *testing.T) {
	w := newWorld(t)
	id, lost, rm := w.create("a1", nil, "sleep"), w.create("a2", nil, "sleep"), w.create("a3", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "sleep")
	for _, c := range []string{id, lost, rm} {
		w.start(c)
	}
	w.close()
	at := time.Now().UTC()
	w.vanish(id, 9, at)
	w.vanish(rm, 0, at)
	w.runtime.mu.Lock()
	delete(w.runtime.tasks, lost) // its shim was killed: no record
	w.runtime.mu.Unlock()
	w.open()
	if s := w.inspect(id).State; s.Status != container.StateExited || s.ExitCode != 9 || s.FinishedAt != at.Format(time.RFC3339Nano) {
		t.Errorf("recorded exit: %+v", s)
	}
	if s := w.inspect(lost).State; s.Status != container.StateExited || s.ExitCode != 137 {
		t.Errorf("lost container: %+v", s)
	}
	eventually(t, "removal", func() bool { _, err := w.viewOf(rm); return err != nil })
	dies := 0
	for _, a := range w.actions() {
		if a == "die" {
			dies++
		}
	}
	if dies != 3 {
		t.Errorf("%d die events, want 3", dies)
	}
}

// TestUnsavedLifeIsTakenFromTheShim: the daemon was killed before it saved a start, or a start and an end.
func TestUnsavedLifeIsTakenFromTheShim(t *testing.T) {
	w := newWorld(t)
	runs, ran := w.create("runs", nil, "sleep"), w.create("ran", nil, "sleep")
	records := map[string]*ctr{}
	for _, id := range []string{runs, ran} {
		c, err := w.registry.find(id)
		if err != nil {
			t.Fatal(err)
		}
		records[id] = c
		w.start(id)
	}
	if err := w.deps.State.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range records { // what the file would say had the daemon died right after create
		rec := *c.view().Container
		rec.Life.Status, rec.Life.StartedAt = container.StateCreated, time.Time{}
		if err := w.deps.State.Put(t.Context(), &rec); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	w.vanish(ran, 4, time.Now())
	w.open()
	if s := w.inspect(runs).State; !s.Running || s.StartedAt == "0001-01-01T00:00:00Z" {
		t.Errorf("running container: %+v", s)
	}
	if s := w.inspect(ran).State; s.Status != container.StateExited || s.ExitCode != 4 {
		t.Errorf("ended container: %+v", s)
	}
}

func TestRestartPoliciesAtBoot(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  container.RestartPolicyMode
		stopped bool
		code    int
		want    container.ContainerState
	}{
		{"no", container.RestartPolicyDisabled, false, 1, container.StateExited},
		{"always", container.RestartPolicyAlways, false, 0, container.StateRunning},
		{"always, stopped", container.RestartPolicyAlways, true, 0, container.StateRunning},
		{"unless-stopped", container.RestartPolicyUnlessStopped, false, 0, container.StateRunning},
		{"unless-stopped, stopped", container.RestartPolicyUnlessStopped, true, 0, container.StateExited},
		{"on-failure, good", container.RestartPolicyOnFailure, false, 0, container.StateExited},
		{"on-failure, bad", container.RestartPolicyOnFailure, false, 1, container.StateRunning},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.create("", func(r *container.CreateRequest) { r.HostConfig.RestartPolicy.Name = tt.policy }, "sleep")
			never := w.create("", func(r *container.CreateRequest) { r.HostConfig.RestartPolicy.Name = tt.policy }, "sleep")
			w.start(id)
			if tt.stopped {
				if err := w.ContainerStop(t.Context(), id, StopOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			w.close()
			if !tt.stopped {
				w.vanish(id, tt.code, time.Now())
			}
			w.open()
			eventually(t, string(tt.want), func() bool { return w.inspect(id).State.Status == tt.want })
			if s := w.inspect(never).State.Status; s != container.StateCreated {
				t.Errorf("a container that never ran is %s", s)
			}
		})
	}
}

func TestInterruptedRemovalIsFinished(t *testing.T) {
	w := newWorld(t)
	id := w.create("half", nil, "sleep")
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.move(container.StateRemoving, nil); err != nil {
		t.Fatal(err)
	}
	w.restart()
	eventually(t, "removal", func() bool { _, err := w.viewOf(id); return err != nil })
}

func TestLeftoversAreRemoved(t *testing.T) {
	w := newWorld(t)
	w.close()
	id, root := randomID(), randomID()
	stranger := filepath.Join(w.dir, "containers", "mine")
	for _, dir := range []string{filepath.Join(w.dir, "containers", id, "logs"), stranger} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.images.root[root] = true
	w.open()
	if _, err := os.Stat(stranger); err != nil {
		t.Errorf("a directory that is not ours: %v", err)
	}
	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	w.empty()
}

// TestShimThatDoesNotAnswer: its container stays what it was, is taken up as soon as that works, and can be ended and
// removed before.
func TestShimThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	later, stopped, removed := w.create("later", nil, "sleep"), w.create("stopped", nil, "sleep"), w.create("removed", nil, "sleep")
	all := []string{later, stopped, removed}
	for _, id := range all {
		w.start(id)
	}
	w.close()
	for _, id := range all {
		w.runtime.setMute(id, true)
	}
	w.open()
	for _, id := range all {
		if s := w.inspect(id).State; s.Status != container.StateRunning {
			t.Errorf("%s: %+v", id, s)
		}
	}
	if err := w.ContainerStop(t.Context(), stopped, StopOptions{}); err != nil {
		t.Errorf("stop: %v", err)
	}
	if s := w.inspect(stopped).State; s.Status != container.StateExited || s.ExitCode != 137 {
		t.Errorf("stopped container: %+v", s)
	}
	if err := w.ContainerRemove(t.Context(), removed, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Errorf("remove: %v", err)
	}
	w.runtime.setMute(later, false)
	eventually(t, "adoption", func() bool { v, err := w.viewOf(later); return err == nil && v.task != nil })
	for _, id := range []string{later, stopped} {
		if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	w.empty()
}
