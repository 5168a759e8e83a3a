package engine

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/problem"
)

// looping makes a container whose first run fails, and waits until its restart is due, which is after delay that was last.
func (w *world) looping(name string, policy container.RestartPolicy) *ctr {
	w.t.Helper()
	var runs atomic.Int64
	end := make(chan struct{})
	w.runtime.programs[name] = func(t *fakeTask) {
		if runs.Add(1) == 1 {
			<-end
			t.end(Exit{Code: 1, Observed: true})
		}
	}
	id := w.create(name, func(r *container.CreateRequest) { r.HostConfig.RestartPolicy = policy }, name)
	w.start(id)
	c, err := w.registry.find(id)
	if err != nil {
		w.t.Fatal(err)
	}
	c.update(func(v *view) { v.restartDelay = restartMax }) // it is not to come by itself
	close(end)
	eventually(w.t, "the restart to wait", func() bool { return c.view().status() == container.StateRestarting })
	eventually(w.t, "the timer", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.cancel != nil })
	return c
}

var always = container.RestartPolicy{Name: container.RestartPolicyAlways}

// TestStopDuringARestart stops containers whose restart has begun: they may not run afterwards.
func TestStopDuringARestart(t *testing.T) {
	for name, stop := range map[string]func(w *world) error{
		"stop": func(w *world) error { return w.ContainerStop(w.t.Context(), "loop", StopOptions{}) },
		"kill": func(w *world) error { return w.ContainerKill(w.t.Context(), "loop", "KILL") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.looping("loop", always)
			letGo := w.runtime.hold("loop")
			restarted := make(chan struct{})
			go func() { defer close(restarted); w.restartNow(t.Context(), c) }()
			eventually(t, "the start", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.goes != nil })
			stopped := make(chan error, 1)
			go func() { stopped <- stop(w) }()
			eventually(t, "the wish to stop", func() bool { return c.view().Life.Stopped })
			letGo()
			<-restarted
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if s := c.view().status(); s != container.StateExited {
				t.Errorf("it is %s", s)
			}
			list, err := w.Deaths(DeathsOptions{Container: "loop", Run: 2})
			if err != nil || len(list) != 1 || list[0].Stop == nil || list[0].Stop.Action != name {
				t.Errorf("death record %+v %v", list, err)
			}
		})
	}
}

// TestStopOfARestartThatHangs: what hangs is broken off, and counts as stopped.
func TestStopOfARestartThatHangs(t *testing.T) {
	w := newWorld(t)
	c := w.looping("loop", always)
	letGo := w.runtime.hold("loop")
	defer letGo()
	go w.restartNow(t.Context(), c)
	eventually(t, "the start", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.goes != nil })
	stopped := make(chan error, 1)
	go func() { stopped <- w.ContainerStop(t.Context(), "loop", StopOptions{}) }()
	eventually(t, "the wish to stop", func() bool { return c.view().Life.Stopped })
	c.cancelStart(errStopped) // as the stop does when its patience is at an end
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if s := c.view().status(); s != container.StateExited {
		t.Errorf("it is %s", s)
	}
}

// TestStopBeforeARestart: a restart that is due when the container is stopped does not come.
func TestStopBeforeARestart(t *testing.T) {
	w := newWorld(t)
	c := w.looping("loop", always)
	release, err := c.turn.take(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	c.cancelRestart()
	if err := w.ContainerStop(t.Context(), "loop", StopOptions{}); err != nil {
		t.Error(err)
	}
	if err := w.Engine.start(t.Context(), c, "restart-policy"); !errors.Is(err, errStopped) {
		t.Errorf("start by the policy of a container that was stopped: %v", err)
	}
	release()
	if r := w.inspect("loop").State; r.Status != container.StateExited || r.Error != "" || r.ExitCode != 1 {
		t.Errorf("%+v", r)
	}
}

// TestStartByHandDuringARestart: one that fails leaves the container at rest, one that does not resets the policy.
func TestStartByHandDuringARestart(t *testing.T) {
	w := newWorld(t)
	c := w.looping("loop", always)
	w.runtime.failing["loop"] = errors.New("no such device")
	if err := w.ContainerStart(t.Context(), "loop"); err == nil {
		t.Fatal("it starts")
	}
	if s := c.view().status(); s != container.StateExited {
		t.Errorf("after a start that failed it is %s, and nothing will start it", s)
	}
	delete(w.runtime.failing, "loop")
	c.update(func(v *view) { v.restartDelay = restartMax })
	w.start("loop")
	w.runtime.task(c.id).end(Exit{Code: 1, Observed: true})
	eventually(t, "the next restart", func() bool { return c.view().exits > 2 })
	if d := c.view().restartDelay; d > 0 && d != restartMin {
		t.Errorf("the first restart after a start by hand comes after %v", d)
	}
}

// TestRestartIsNotLostWithTheDaemon: a restart that was due when the daemon ended counts once.
func TestRestartIsNotLostWithTheDaemon(t *testing.T) {
	w := newWorld(t)
	c := w.looping("loop", container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 1})
	if n := c.view().Life.RestartCount; n != 1 {
		t.Fatalf("%d restarts", n)
	}
	w.close()
	w.open()
	eventually(t, "the restart", func() bool { return w.inspect("loop").State.Running })
	if n := w.inspect("loop").RestartCount; n != 1 {
		t.Errorf("%d restarts", n)
	}
}

// TestRemoveOfOneThatIsBeingStarted: without force it is left alone.
func TestRemoveOfOneThatIsBeingStarted(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	letGo := w.runtime.hold("sleep")
	started, removed := make(chan error, 1), make(chan error, 1)
	go func() { started <- w.ContainerStart(t.Context(), id) }()
	eventually(t, "the start", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.goes != nil })
	go func() { removed <- w.ContainerRemove(t.Context(), id, RemoveOptions{}) }()
	eventually(t, "the removal", func() bool { return c.view().removing })
	letGo()
	if err := <-started; err != nil {
		t.Error(err)
	}
	if err := <-removed; !errdefs.IsConflict(err) {
		t.Errorf("removal of a container that runs: %v", err)
	}
	if v := c.view(); v.status() != container.StateRunning || v.removing {
		t.Errorf("it is %s, to be removed %v", v.status(), v.removing)
	}
}

// TestRenameOfOneThatWasRemoved does not take the new name for ever.
func TestRenameOfOneThatWasRemoved(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	release, err := c.turn.take(t.Context(), "remove")
	if err != nil {
		t.Fatal(err)
	}
	renamed := make(chan error, 1)
	go func() { renamed <- w.ContainerRename(t.Context(), id, "other") }()
	eventually(t, "the rename to wait", func() bool { list, err := w.Operations(id); return err == nil && len(list) == 1 })
	if !c.claimRemoval() {
		t.Fatal("it is being removed")
	}
	if err := w.destroy(t.Context(), c, RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-renamed; !errdefs.IsNotFound(err) {
		t.Errorf("rename of a container that is gone: %v", err)
	}
	w.create("other", nil, "sleep")
}

// TestUpdateOfOneThatIsNotAdopted does not pretend to have set limits.
func TestUpdateOfOneThatIsNotAdopted(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	w.close()
	w.runtime.setMute(id, true)
	w.open()
	u := container.UpdateConfig{RestartPolicy: always}
	if _, err := w.ContainerUpdate(t.Context(), id, u); !errdefs.IsUnavailable(err) || problem.Hint(err) == "" {
		t.Errorf("update: %v", err)
	}
	w.runtime.setMute(id, false)
	eventually(t, "adoption", func() bool { return w.inspect(id).State.Pid != 0 })
	if _, err := w.ContainerUpdate(t.Context(), id, u); err != nil {
		t.Error(err)
	}
}

// TestRestartThatWaits: while a restart waits for the end of a container that takes its time, that can be updated and removed.
func TestRestartThatWaits(t *testing.T) {
	w := newWorld(t)
	id := w.create("slow", nil, "slow")
	w.runtime.programs["slow"] = func(t *fakeTask) { t.mu.Lock(); t.ignore = true; t.mu.Unlock() }
	w.start(id)
	eventually(t, "it takes its time", func() bool { f := w.runtime.task(id); f.mu.Lock(); defer f.mu.Unlock(); return f.ignore })
	restarted := make(chan error, 1)
	hours := 7200
	go func() { restarted <- w.ContainerRestart(t.Context(), id, StopOptions{Timeout: &hours}) }()
	c, err := w.findContainer(id)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wish to stop", func() bool { return c.view().Life.Stopped })
	if _, err := w.ContainerUpdate(t.Context(), id, container.UpdateConfig{}); err != nil {
		t.Errorf("update: %v", err)
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
		t.Errorf("removal: %v", err)
	}
	if err := <-restarted; !errdefs.IsConflict(err) {
		t.Errorf("restart of a container that was removed: %v", err)
	}
}

// TestTwoRestarts at once: the container runs afterwards, and both say that it was restarted.
func TestTwoRestarts(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- w.ContainerRestart(t.Context(), id, StopOptions{}) }()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
	if s := w.inspect("box").State; !s.Running {
		t.Errorf("it is %s", s.Status)
	}
}
