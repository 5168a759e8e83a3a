package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/record/death"
)

// causes shows death records in a few words each.
func (w *world) causes(o DeathsOptions) []string {
	w.t.Helper()
	list, err := w.Deaths(o)
	if err != nil {
		w.t.Fatal(err)
	}
	out := []string{}
	for _, r := range list {
		text := fmt.Sprintf("%s %d %s", r.Name, r.Run, r.Cause)
		if r.DaemonAbsent {
			text += " absent"
		}
		out = append(out, text)
	}
	return out
}

func TestDeathsAreRecorded(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true, WaitStatus: 7 << 8}) }
	id := w.create("web", nil, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionNotRunning)
	// Whoever was told of the end finds the record, also before it is written.
	if diff := cmp.Diff([]string{"web 1 failed"}, w.causes(DeathsOptions{Container: "web"})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	who := event.WithOrigin(t.Context(), &event.Origin{UID: new(uint32(1000)), PID: 42})
	id2 := w.create("db", nil, "sleep")
	if err := w.ContainerStart(who, id2); err != nil {
		t.Fatal(err)
	}
	w.runtime.task(id2).ignore = true
	if err := w.ContainerStop(who, id2, StopOptions{Timeout: new(0)}); err != nil {
		t.Fatal(err)
	}
	list, err := w.Deaths(DeathsOptions{Container: "db"})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	r := list[0]
	if r.Cause != death.TimedOut || r.Stop.By.PID != 42 || r.StartedBy.PID != 42 || r.Stop.Signal != syscall.SIGTERM || !r.Stop.TimedOut {
		t.Errorf("record %+v, stop %+v", r, r.Stop)
	}
	if err := w.ContainerRemove(who, id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		want := []string{"db 1 timed-out", "web 1 failed"}
		if diff := cmp.Diff(want, w.causes(DeathsOptions{})); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		for _, ref := range []string{"web", "/web", id, id[:12]} {
			if got := w.causes(DeathsOptions{Container: ref}); len(got) != 1 {
				t.Errorf("of the removed container %s: %v", ref, got)
			}
		}
		w.close()
		w.open()
	}
	if _, err := w.Deaths(DeathsOptions{Container: "nosuch"}); !errdefs.IsNotFound(err) {
		t.Errorf("of a container that never was: %v", err)
	}
}

func TestDeathOfAFailedStart(t *testing.T) {
	w := newWorld(t)
	w.runtime.failing["nosuch"] = fmt.Errorf("it does not start")
	id := w.create("bad", nil, "nosuch")
	if err := w.ContainerStart(t.Context(), id); err == nil {
		t.Fatal("it starts")
	}
	if diff := cmp.Diff([]string{"bad 1 not-started"}, w.causes(DeathsOptions{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// The shim's record, or the lack of it, tells of an end that no daemon saw.
func TestDeathWithoutADaemon(t *testing.T) {
	w := newWorld(t)
	seen, lost := w.create("seen", nil, "sleep"), w.create("lost", nil, "sleep")
	w.start(seen)
	w.start(lost)
	w.close()
	w.runtime.mu.Lock()
	w.runtime.exits[w.stateDir(seen)] = Exit{Code: 3, Observed: true, At: time.Now()}
	delete(w.runtime.tasks, seen)
	delete(w.runtime.tasks, lost)
	w.runtime.mu.Unlock()
	w.open()
	for ref, want := range map[string]string{"seen": "seen 1 failed absent", "lost": "lost 1 lost"} {
		if got := w.causes(DeathsOptions{Container: ref}); len(got) != 1 || got[0] != want {
			t.Errorf("records %v, want %s", got, want)
		}
	}
}

// loseDeath removes the only death record, as if its daemon had been killed before.
func (w *world) loseDeath() {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "deaths", "*"))
	if err != nil || len(files) != 1 {
		w.t.Fatal(files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		w.t.Fatal(err)
	}
}

// A daemon that was killed before it wrote a record leaves that to the next.
func TestMissingDeathIsMadeUpFor(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	id := w.create("web", nil, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionNotRunning)
	w.close()
	w.loseDeath()
	w.open()
	if diff := cmp.Diff([]string{"web 1 failed"}, w.causes(DeathsOptions{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	w.close()
	w.open()
	if got := w.causes(DeathsOptions{}); len(got) != 1 {
		t.Errorf("after another start: %v", got)
	}
}

// So does one that was killed while it removed the container, and had saved that.
func TestMissingDeathAmidRemoval(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	id := w.create("web", nil, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionNotRunning)
	w.images.failRemoval.Store(true)
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{}); err == nil {
		t.Fatal("it was removed")
	}
	w.close()
	w.images.failRemoval.Store(false)
	w.loseDeath()
	w.open()
	eventually(t, "removal", func() bool { _, err := w.viewOf(id); return err != nil })
	if diff := cmp.Diff([]string{"web 1 failed"}, w.causes(DeathsOptions{Container: "web"})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestDeathOfRemoved: a daemon that is killed right after the end of a container with --rm leaves its record to the next.
func TestDeathOfRemoved(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	blocked := make(chan struct{})
	defer failpoint.Set(func(point string) error {
		if point == "atomicfile.write" {
			<-blocked // as long as the daemon "lives", no record is written
		}
		return nil
	})()
	id := w.create("web", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionRemoved)
	if err := w.deps.State.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if recs, _, err := w.deps.State.Containers(); err != nil || len(recs) != 1 || recs[0].Life.ExitCode != 7 {
		t.Errorf("before its death is written, the records are %v, %v, want that of the container", recs, err)
	}
	close(blocked)
	if _, err := w.registry.find(id); err == nil { // nobody finds it meanwhile
		t.Error("the container that was removed is found")
	}
	w.close()
	w.open()
	if diff := cmp.Diff([]string{"web 1 failed"}, w.causes(DeathsOptions{Container: "web"})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if recs, _, err := w.deps.State.Containers(); err != nil || len(recs) != 0 {
		t.Errorf("at the end the records are %v, %v, want none", recs, err)
	}
}

// TestTrashIsTriedAgain: the files that such a container leaves on a full disk go once there is room.
func TestTrashIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	blocked := make(chan struct{})
	var full atomic.Bool
	var tries atomic.Int32
	full.Store(true)
	defer failpoint.Set(func(point string) error {
		switch {
		case point == "atomicfile.write":
			<-blocked
		case point == "engine.trash" && full.Load():
			tries.Add(1)
			return syscall.ENOSPC
		}
		return nil
	})()
	id := w.create("web", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionRemoved)
	close(blocked)
	eventually(t, "a try to remove its files", func() bool { return tries.Load() > 0 })
	dir := filepath.Join(w.dir, "containers", id)
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the files that could not be removed: %v", err)
	}
	full.Store(false)
	eventually(t, "the end of its files", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestDeathOnFullDisk: a record that the disk does not take is shown meanwhile, and written when there is room; a removal
// does not wait for that.
func TestDeathOnFullDisk(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	restore := failpoint.Fail("atomicfile.write", syscall.ENOSPC)
	defer restore()
	id := w.create("web", nil, "fail")
	w.start(id)
	w.wait(id, container.WaitConditionNotRunning)
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web 1 failed"}, w.causes(DeathsOptions{Container: "web"})); diff != "" {
		t.Errorf("records while the disk is full (-want +got):\n%s", diff)
	}
	files := func() int {
		found, err := filepath.Glob(filepath.Join(w.dir, "deaths", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := files(); n != 0 {
		t.Errorf("%d records are written to a full disk", n)
	}
	restore()
	eventually(t, "writing of the record", func() bool { return files() == 1 })
}

// So it does when there are as many records as there may be, but not for one that was removed to make room.
func TestMissingDeathOfFullStore(t *testing.T) {
	w := newWorld(t)
	w.close()
	w.deathBounds = death.Options{MaxCount: 2}
	w.open()
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 7, Observed: true}) }
	for _, name := range []string{"old", "first", "second", "lost"} {
		id := w.create(name, nil, "fail")
		w.start(id)
		w.wait(id, container.WaitConditionNotRunning)
	}
	w.close()
	files, err := filepath.Glob(filepath.Join(w.dir, "deaths", "*")) // the oldest first
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	// As after a kill: "lost" ended last, "old" made room.
	if err := errors.Join(os.Remove(files[0]), os.Remove(files[3])); err != nil {
		t.Fatal(err)
	}
	w.open()
	if diff := cmp.Diff([]string{"lost 1 failed", "second 1 failed", "first 1 failed"}, w.causes(DeathsOptions{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestMarkFirst(t *testing.T) {
	at := time.Now()
	kills := func() []death.OOMKill {
		return []death.OOMKill{{PID: 7, Time: at.Add(-time.Minute)}, {PID: 8, Time: at.Add(-time.Millisecond)}}
	}
	killed := Exit{Signal: syscall.SIGKILL, At: at}
	for _, tt := range []struct {
		name string
		same bool
		pid  int
		exit Exit
		want []bool
	}{
		{"by pid", true, 7, killed, []bool{true, false}},
		{"none of them", true, 9, killed, []bool{false, false}},
		{"another namespace", false, 9, killed, []bool{false, true}},
		{"never seen", true, 0, killed, []bool{false, true}},
		{"ended by itself", false, 9, Exit{At: at}, []bool{false, false}},
		{"killed much later", false, 9, Exit{Signal: syscall.SIGKILL, At: at.Add(time.Hour)}, []bool{false, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Engine{kernel: kernelLog{samePIDs: tt.same}}
			list := kills()
			e.markFirst(list, tt.pid, tt.exit)
			if got := []bool{list[0].First, list[1].First}; !cmp.Equal(tt.want, got) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
