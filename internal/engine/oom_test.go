package engine

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func (w *world) oomKilled(ref string) bool {
	w.t.Helper()
	return w.inspect(ref).State.OOMKilled
}

func TestOOMKillOfAChild(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	w.start(id)
	w.runtime.task(id).oom <- struct{}{}
	eventually(t, "the kill to be noted", func() bool { return w.oomKilled(id) })
	if s := w.inspect(id).State; !s.Running {
		t.Errorf("state after a child was killed: %+v", s)
	}
	// Another daemon keeps the note, and does not tell of the same again.
	w.close()
	w.runtime.task(id).oom <- struct{}{}
	w.open()
	if !w.oomKilled(id) {
		t.Error("the kill is forgotten after adoption")
	}
	// An end in order keeps it as well.
	w.runtime.task(id).end(Exit{OOMKilled: true})
	w.wait(id, container.WaitConditionNotRunning)
	if !w.oomKilled(id) {
		t.Error("the kill is forgotten at the end")
	}
	w.start(id)
	if w.oomKilled(id) {
		t.Error("a kill of the last run is shown in the next")
	}
	// The first process: told together with its end.
	w.runtime.task(id).oom <- struct{}{}
	w.runtime.task(id).end(Exit{Code: 137, OOMKilled: true})
	w.wait(id, container.WaitConditionNotRunning)
	eventually(t, "the end to be published", func() bool { a := w.actions(); return a[len(a)-1] == "die" })
	if !w.oomKilled(id) {
		t.Error("the kill of the first process is not noted")
	}
	want := []string{"create", "start", "oom", "die", "start", "oom", "die"}
	if diff := cmp.Diff(want, w.actions()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A kill while no daemon was there is told by the next.
func TestOOMKillMeanwhile(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	w.start(id)
	w.close()
	w.runtime.task(id).oom <- struct{}{}
	w.open()
	eventually(t, "the kill to be noted", func() bool { return w.oomKilled(id) })
	// The event is told after that.
	eventually(t, "the event", func() bool { return slices.Contains(w.actions(), "oom") })
	if diff := cmp.Diff([]string{"create", "start", "oom"}, w.actions()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
