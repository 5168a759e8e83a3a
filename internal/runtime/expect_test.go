package runtime

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// begunFor waits until what Expect has begun for a container is there, and says
// which shim that is.
func (w *world) begunFor(b Bundle) (pid int) {
	w.t.Helper()
	w.r.expected.mu.Lock()
	e := w.r.expected.byID[b.ID]
	w.r.expected.mu.Unlock()
	if e == nil {
		w.t.Fatalf("nothing was begun for %s", b.ID)
	}
	<-e.done
	w.must(e.err)
	return e.cr.shimPid
}

// again is the same bundle made anew, as an engine does.
func (w *world) again(b Bundle) Bundle {
	w.t.Helper()
	data, err := json.Marshal(b.Spec)
	w.must(err)
	b.Spec = new(specs.Spec)
	w.must(json.Unmarshal(data, b.Spec))
	return b
}

func TestExpect(t *testing.T) {
	w := newWorld(t)
	w.must(w.cycle(w.bundle("sleep", "1000"))) // the forker stays
	before := w.settled()

	t.Run("used", func(t *testing.T) {
		w := w.with(t)
		b := w.again(w.bundle("echo", "hello"))
		w.r.Expect(w.again(b))
		pid := w.begunFor(b)
		c := w.create(b)
		if c.shimProcess.PID != pid {
			t.Errorf("shim %d serves the container, %d was begun for it", c.shimProcess.PID, pid)
		}
		w.must(c.Start(w.context()))
		w.wait(c.Done())
		if e := c.Exit(); e.Code != 0 {
			t.Errorf("exit = %+v", e)
		}
	})
	t.Run("other bundle", func(t *testing.T) {
		w := w.with(t)
		b := w.bundle("true")
		w.r.Expect(w.again(b))
		pid := w.begunFor(b)
		b.Spec.Hostname = "changed"
		c := w.create(b)
		if c.shimProcess.PID == pid {
			t.Error("a shim that was begun for another bundle is used")
		}
		w.must(c.Start(w.context()))
		w.wait(c.Done())
	})
	t.Run("forgotten", func(t *testing.T) {
		w := w.with(t)
		b := w.bundle("true")
		w.r.Expect(b)
		w.r.Forget(b.ID)
		w.r.Forget(b.ID)
	})
	t.Run("failed", func(t *testing.T) {
		w := w.with(t)
		w.r.failAt = func(step string) error {
			if step == "shim" {
				return fmt.Errorf("not this time")
			}
			return nil
		}
		b := w.bundle("true")
		w.r.Expect(w.again(b))
		w.r.expected.mu.Lock()
		e := w.r.expected.byID[b.ID]
		w.r.expected.mu.Unlock()
		<-e.done
		w.r.failAt = nil
		if _, exit := w.run(b); exit.Code != 0 {
			t.Errorf("exit = %+v", exit)
		}
	})
	t.Run("too many", func(t *testing.T) {
		w := w.with(t)
		var all []Bundle
		for range expectMost + 3 {
			b := w.bundle("true")
			w.r.Expect(b)
			all = append(all, b)
		}
		w.r.expected.mu.Lock()
		if n := len(w.r.expected.byID); n != expectMost {
			t.Errorf("%d are begun at once, want %d", n, expectMost)
		}
		w.r.expected.mu.Unlock()
		for _, b := range all {
			w.r.Forget(b.ID)
		}
	})
	w.wantTraces(before)
}

// TestExpectInVain has no start come.
func TestExpectInVain(t *testing.T) {
	w := newWorld(t)
	w.must(w.cycle(w.bundle("sleep", "1000")))
	before := w.settled()
	b := w.bundle("true")
	w.r.Expect(b)
	w.begunFor(b)
	w.r.expected.mu.Lock()
	w.r.expected.byID[b.ID].timer.Reset(time.Millisecond)
	w.r.expected.mu.Unlock()
	w.wantTraces(before)
}

// TestLoadOfNeverStarted is a daemon that was killed between Expect or Create and Start.
func TestLoadOfNeverStarted(t *testing.T) {
	w := newWorld(t)
	w.must(w.cycle(w.bundle("sleep", "1000")))
	before := w.settled()
	for _, name := range []string{"expected", "created"} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			b := w.bundle("true")
			if name == "created" {
				c, err := w.r.Create(w.context(), b)
				w.must(err)
				w.must(c.Release())
			} else {
				w.r.Expect(b)
				w.begunFor(b)
				w.r.expected.mu.Lock()
				e := w.r.expected.take(b.ID)
				w.r.expected.mu.Unlock()
				e.cr.close()
			}
			if _, err := w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir); !errdefs.IsNotFound(err) {
				t.Errorf("Load() = %v, want not found", err)
			}
			if _, exit := w.run(b); exit.Code != 0 {
				t.Errorf("exit = %+v", exit)
			}
		})
	}
	w.wantTraces(before)
}
