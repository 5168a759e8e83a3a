package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"
	bolt "go.etcd.io/bbolt"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/runtime"
)

// restart ends the daemon and starts another.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

// What the sessions of an earlier daemon have left is ended, also where no session is known any more.
func TestToolsThatAreLeftAreEnded(t *testing.T) {
	w := newWorld(t)
	id := w.create("run", nil, "sleep")
	w.start(id)
	w.restart()
	task := w.runtime.task(id)
	eventually(t, "the end of tools", func() bool {
		task.mu.Lock()
		defer task.mu.Unlock()
		return task.cleared > 0
	})
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
	killed := w.create("killed", nil, "sleep")        // so was its shim
	before := w.create("killed-before", nil, "sleep") // its shim, when that was noted
	again := w.create("killed-again", nil, "sleep")   // the shim of its second run
	records := map[string]*ctr{}
	for _, id := range []string{runs, ran, killed, before, again} {
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
		switch c.id {
		case killed:
			rec.Life.Run, rec.Life.Runs = 0, nil
		case before, again:
			rec.Life.Status, rec.Life.ExitCode, rec.Life.FinishedAt = container.StateExited, 5, time.Now().UTC()
		}
		if err := w.deps.State.Put(t.Context(), &rec); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	ended := time.Now().UTC()
	w.vanish(ran, 4, ended)
	w.runtime.mu.Lock()
	for at, exit := range w.runtime.exits {
		exit.Ran = time.Minute
		w.runtime.exits[at] = exit
	}
	for id, run := range map[string]int{killed: 1, before: 1, again: 2} {
		delete(w.runtime.tasks, id)
		w.runtime.begun[filepath.Join(w.dir, "containers", id, "shim")] = run
	}
	w.runtime.mu.Unlock()
	w.open()
	if s := w.inspect(runs).State; !s.Running || s.StartedAt == "0001-01-01T00:00:00Z" {
		t.Errorf("running container: %+v", s)
	}
	began := ended.Add(-time.Minute)
	if s := w.inspect(ran).State; s.Status != container.StateExited || s.ExitCode != 4 || s.StartedAt != began.Format(time.RFC3339Nano) {
		t.Errorf("ended container: %+v, want it to have begun at %v", s, began)
	}
	c, err := w.registry.find(ran)
	if err != nil {
		t.Fatal(err)
	}
	if last, _ := c.view().Life.Last(); !last.StartedAt.Equal(began) {
		t.Errorf("its run began at %v, want %v", last.StartedAt, began)
	}
	for id, code := range map[string]int{killed: 137, before: 5, again: 137} {
		s := w.inspect(id)
		if s.State.Status != container.StateExited || s.State.ExitCode != code || code == 137 && s.State.StartedAt == "0001-01-01T00:00:00Z" {
			t.Errorf("%s: %+v, want code %d", s.Name, s.State, code)
		}
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

// TestInterruptedRemovalIsFinished: a removal that the daemon was in the midst of, or that has failed, is gone on with,
// and takes the volumes only if that was asked for.
func TestInterruptedRemovalIsFinished(t *testing.T) {
	for name, volumes := range map[string]bool{"without volumes": false, "with volumes": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.create("half", nil, "sleep")
			kept := len(w.deps.Volumes.List())
			if kept == 0 {
				t.Fatal("it has no volume")
			}
			w.images.failRemoval.Store(true)
			if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Volumes: volumes}); err == nil {
				t.Fatal("it was removed")
			}
			w.images.failRemoval.Store(false)
			if volumes {
				kept = 0
			}
			w.restart()
			eventually(t, "removal", func() bool { _, err := w.viewOf(id); return err != nil })
			if left := w.deps.Volumes.List(); len(left) != kept {
				t.Errorf("%d volumes are left, want %d", len(left), kept)
			}
		})
	}
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

// TestAdoptionHoldsUpNobody: with shims that do not answer within any time, the daemon is there at once, the others are
// taken up, reads show what was saved, and whoever needs such a container waits and is seen to.
func TestAdoptionHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	stuck, fine := w.create("stuck", nil, "sleep"), w.create("fine", nil, "sleep")
	for _, id := range []string{stuck, fine} {
		w.start(id)
	}
	w.close()
	w.runtime.hang(stuck)
	w.openUnsettled()
	eventually(t, "adoption of the other", func() bool { v, err := w.viewOf(fine); return err == nil && v.task != nil })
	if s := w.inspect(stuck).State; s.Status != container.StateRunning {
		t.Errorf("a container that is being adopted: %+v", s)
	}
	result := make(chan error, 1)
	go func() { result <- w.ContainerKill(t.Context(), stuck, "HUP") }()
	eventually(t, "the operation", func() bool {
		list, err := w.Operations("stuck")
		return err == nil && len(list) == 2 && list[0].Verb == "adoption" && list[1].Verb == "kill" && list[1].Name == "stuck"
	})
	w.runtime.hang("")
	if err := <-result; err != nil {
		t.Errorf("kill after adoption: %v", err)
	}
	for _, id := range []string{stuck, fine} {
		if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	if list, err := w.Operations(""); err != nil || len(list) != 0 {
		t.Errorf("operations are left: %+v %v", list, err)
	}
	w.empty()
}

// TestUnadoptedIsNamed: who needs what the engine cannot reach is told why, and not that it does not run.
func TestUnadoptedIsNamed(t *testing.T) {
	w := newWorld(t)
	id := w.create("mute", nil, "sleep")
	w.start(id)
	w.close()
	w.runtime.setMute(id, true)
	w.open()
	_, execErr := w.ContainerExecCreate(t.Context(), id, container.ExecCreateRequest{Cmd: []string{"true"}})
	for verb, err := range map[string]error{
		"exec":   execErr,
		"pause":  w.ContainerPause(t.Context(), id),
		"kill":   w.ContainerKill(t.Context(), id, "HUP"),
		"resize": w.ContainerResize(t.Context(), id, 1, 1),
		"attach": w.ContainerAttach(t.Context(), id, AttachOptions{Stream: true, Stdout: true}, func() (Stream, error) { return nil, errors.New("opened") }),
	} {
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "the shim does not answer") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Error(err)
	}
	w.empty()
}

// spoil changes a saved record behind the daemon's back.
func (w *world) spoil(id string, value []byte) {
	w.t.Helper()
	db, err := bolt.Open(filepath.Join(w.dir, "state.db"), 0o600, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("containers"))
		if value == nil {
			value = b.Get([]byte(id))[:40] // torn in the middle
		}
		return b.Put([]byte(id), value)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// TestDamagedRecord: it is no reason not to start, what runs of it is left alone, and all of it can be removed.
func TestDamagedRecord(t *testing.T) {
	w := newWorld(t)
	bad, good := w.create("bad", nil, "sleep"), w.create("good", nil, "sleep")
	w.start(bad)
	w.start(good)
	w.close()
	w.spoil(bad, nil)
	w.spoil("../../etc", []byte(`{"id":"../../etc"}`)) // is nobody's, and touches nothing
	w.open()
	if s := w.inspect(good).State; !s.Running {
		t.Errorf("the other container: %+v", s)
	}
	r := w.inspect(bad)
	if r.State.Status != container.StateDead || !strings.Contains(r.State.Error, "read record of container "+bad) || r.Name != "/damaged_"+bad[:12] {
		t.Errorf("the damaged one: %s %+v", r.Name, r.State)
	}
	if w.runtime.task(bad) == nil {
		t.Error("what runs of it was ended")
	}
	if err := w.ContainerStart(t.Context(), bad); !errdefs.IsConflict(err) {
		t.Errorf("start: %v", err)
	}
	w.restart() // is the same again
	for _, id := range []string{bad, good} {
		if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if w.runtime.task(bad) != nil {
		t.Error("what runs of it is left")
	}
}

// TestSameNameTwice: the newer one keeps it, and the other says what it is called now.
func TestSameNameTwice(t *testing.T) {
	w := newWorld(t)
	older, newer := w.create("web", nil, "sleep"), w.create("db", nil, "sleep")
	c, err := w.registry.find(newer)
	if err != nil {
		t.Fatal(err)
	}
	rec := *c.view().Container
	rec.Name = "web"
	if err := w.deps.State.Put(t.Context(), &rec); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.restart() // it was saved
	if got := w.inspect("web").ID; got != newer {
		t.Errorf("web is %s", got)
	}
	if got := w.inspect(older).Name; got != "/web_"+older[:8] {
		t.Errorf("the older one is called %s", got)
	}
	renames := 0
	for _, a := range w.actions() {
		if a == string(events.ActionRename) {
			renames++
		}
	}
	if renames != 1 {
		t.Errorf("%d rename events", renames)
	}
	for _, ref := range []string{"web", "web_" + older[:8]} {
		if err := w.ContainerRemove(t.Context(), ref, RemoveOptions{Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	w.empty()
}

// TestRestartPolicyWaitsForDonors: a container that joins another's network is started with the daemon after that one.
func TestRestartPolicyWaitsForDonors(t *testing.T) {
	w := newWorld(t)
	always := func(net container.NetworkMode) func(r *container.CreateRequest) {
		return func(r *container.CreateRequest) {
			r.HostConfig.RestartPolicy.Name = container.RestartPolicyAlways
			r.HostConfig.NetworkMode = net
		}
	}
	donor := w.create("donor", always("bridge"), "sleep")
	var ids []string
	for range 5 {
		ids = append(ids, w.create("", always(container.NetworkMode("container:"+donor)), "sleep"))
	}
	for _, id := range slices.Concat([]string{donor}, ids) {
		w.start(id)
	}
	w.close()
	for _, id := range slices.Concat([]string{donor}, ids) {
		w.vanish(id, 0, time.Now())
	}
	w.runtime.hang(donor)
	w.openUnsettled()
	eventually(t, "their adoption", func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return w.inspect(id).State.Status != container.StateExited })
	})
	w.runtime.hang("")
	for _, id := range ids {
		eventually(t, "start", func() bool { s := w.inspect(id).State; return s.Running || s.Error != "" })
		if s := w.inspect(id).State; !s.Running {
			t.Errorf("%+v", s)
		}
	}
}

// TestSlowOperationsAreShown: those that take longer than anything usually does are warned of, with what they wait for.
func TestSlowOperationsAreShown(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	release, err := c.turn.take(t.Context(), "pause")
	if err != nil {
		t.Fatal(err)
	}
	ctx := event.WithOrigin(t.Context(), &event.Origin{PID: 8})
	done := w.begin(ctx, "rename", c)
	if list := w.slowOperations(); len(list) != 0 {
		t.Errorf("young operations: %q", list)
	}
	w.operations.mu.Lock()
	for _, op := range w.operations.open {
		op.since = op.since.Add(-12 * time.Second)
	}
	w.operations.mu.Unlock()
	if diff := cmp.Diff([]string{"WARNING: rename of web has been under way for 12s and waits for pause"}, w.slowOperations()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	list, err := w.Operations("web")
	if err != nil || len(list) != 1 || !list[0].Slow || list[0].By == nil || list[0].By.PID != 8 || list[0].WaitsFor != "pause" {
		t.Errorf("operations: %+v %v", list, err)
	}
	release()
	done()
	if list, err := w.Operations(""); err != nil || len(list) != 0 {
		t.Errorf("operations are left: %+v %v", list, err)
	}
	if _, err := w.Operations("nope"); !errdefs.IsNotFound(err) {
		t.Errorf("of no container: %v", err)
	}
}

// TestExecsOutliveTheDaemon: those that run are listed, inspected and waited for, those that ended meanwhile have their
// exit code, and health checks are nobody's.
func TestExecsOutliveTheDaemon(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	exec := func(args ...string) string {
		x, err := w.ContainerExecCreate(t.Context(), id, container.ExecCreateRequest{Cmd: args, User: "app", Env: []string{"SECRET=x"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ContainerExecStart(t.Context(), x, ExecStartOptions{Detach: true}, nil); err != nil {
			t.Fatal(err)
		}
		return x
	}
	runs, ended := exec("serve", "-v"), exec("serve", "-q")
	task := w.runtime.task(id)
	task.execs = append(task.execs, &fakeProcess{t: task, o: runtime.ExecOptions{
		ID: "probe", Process: &specs.Process{Args: []string{"check"}}, Note: execNote{Probe: true}.encode(),
	}, done: make(chan struct{})})
	if note := string(task.execs[0].o.Note); strings.Contains(note, "SECRET") {
		t.Errorf("the shim keeps secrets: %s", note)
	}
	w.close()
	task.execs[1].end(4)
	w.open()
	if got := w.inspect(id).ExecIDs; !slices.Equal(got, []string{runs}) {
		t.Errorf("execs: %v, want %s", got, runs)
	}
	x, err := w.ContainerExecInspect(t.Context(), runs)
	if err != nil || !x.Running || x.ProcessConfig.Entrypoint != "serve" || x.ProcessConfig.User != "app" || x.Pid != 1 {
		t.Errorf("one that runs: %+v %v", x, err)
	}
	x, err = w.ContainerExecInspect(t.Context(), ended)
	if err != nil || x.Running || x.ExitCode == nil || *x.ExitCode != 4 {
		t.Errorf("one that ended meanwhile: %+v %v", x, err)
	}
	task.execs[0].end(3)
	eventually(t, "the end of the exec", func() bool {
		x, err := w.ContainerExecInspect(t.Context(), runs)
		return err == nil && !x.Running && x.ExitCode != nil && *x.ExitCode == 3 && len(w.inspect(id).ExecIDs) == 0
	})
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Error(err)
	}
	w.empty()
}

// TestUnstartedAutoRemove: a container with --rm is removed if its daemon died before it was started, and the client does
// not come back; not one that somebody has made to start by hand.
func TestUnstartedAutoRemove(t *testing.T) {
	w := newWorld(t)
	rm := func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }
	w.close()
	w.grace = time.Millisecond
	w.open()
	kept := w.create("kept", rm, "sleep")
	eventually(t, "that it is kept", func() bool { v, err := w.viewOf(kept); return err == nil && v.Life.Kept })
	w.close()
	w.grace = time.Hour
	w.open()
	left, back, plain := w.create("left", rm, "sleep"), w.create("back", rm, "sleep"), w.create("plain", nil, "sleep")
	w.close()
	w.grace = 300 * time.Millisecond
	w.open()
	w.start(back)
	eventually(t, "removal", func() bool { _, err := w.viewOf(left); return errdefs.IsNotFound(err) })
	for _, id := range []string{kept, back, plain} {
		if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	w.empty()
}

// TestHealthOutlivesTheDaemon: what was found out about a run is not forgotten with the daemon, but with the run.
func TestHealthOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", func(r *container.CreateRequest) {
		r.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "exit", "0"}, Interval: time.Millisecond, StartInterval: time.Millisecond}
	}, "sleep")
	w.start(id)
	eventually(t, "health", func() bool { return w.inspect(id).State.Health.Status == container.Healthy })
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	rec := *c.view().Container
	config := *rec.Config
	config.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "exit", "0"}, Interval: time.Hour, StartInterval: time.Hour}
	rec.Config = &config // so that no probe of the next daemon says it anew
	w.close()
	db, err := state.Open(filepath.Join(w.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put(t.Context(), &rec), db.Close()); err != nil {
		t.Fatal(err)
	}
	w.open()
	if h := w.inspect(id).State.Health; h.Status != container.Healthy || len(h.Log) == 0 {
		t.Errorf("health after a restart of the daemon: %+v", h)
	}
	if err := w.ContainerRestart(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if h := w.inspect(id).State.Health; h.Status != container.Starting {
		t.Errorf("health of the next run: %+v", h)
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Error(err)
	}
	w.empty()
}

// TestNetworkIDIsKept: of a container that has ended it can be seen in which network it was, with the next daemon too.
func TestNetworkIDIsKept(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	if got := w.inspect(id).NetworkSettings.Networks["bridge"].NetworkID; got != "" {
		t.Errorf("before the start: %q", got)
	}
	w.start(id)
	if err := w.ContainerStop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		es := w.inspect(id).NetworkSettings.Networks["bridge"]
		if es.NetworkID != "n1" || es.EndpointID != "" || es.IPAddress.IsValid() {
			t.Errorf("after the end: %+v", es)
		}
		w.restart()
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Error(err)
	}
	w.empty()
}
