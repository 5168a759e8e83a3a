package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// once starts a container that rests with another command.
func (w *world) once(ref string, o OnceOptions) {
	w.t.Helper()
	token, err := w.ContainerOnce(w.t.Context(), ref, o)
	if err == nil {
		err = w.ContainerStartOnce(w.t.Context(), ref, token)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestOnceOutlivesTheDaemon: such a run has what it was started with, and no restart policy, under the next daemon too, and
// what has ended meanwhile is not started by it.
func TestOnceOutlivesTheDaemon(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		w := newWorld(t)
		id := w.create("box", func(r *container.CreateRequest) {
			r.HostConfig.RestartPolicy.Name = container.RestartPolicyOnFailure
		}, "sleep")
		w.once(id, OnceOptions{Cmd: []string{"look"}, TTY: true})
		if meanwhile {
			w.close()
			w.vanish(id, 7, time.Now().UTC())
			w.open()
		} else {
			w.restart()
			if tty, err := w.ContainerTTY(id); err != nil || !tty {
				t.Errorf("terminal of the run after an adoption: %v, %v", tty, err)
			}
			w.runtime.task(id).end(Exit{Code: 7, Observed: true})
			w.wait(id, container.WaitConditionNotRunning)
		}
		c, err := w.registry.find(id)
		if err != nil {
			t.Fatal(err)
		}
		<-c.booted
		if s := w.inspect(id).State; s.Status != container.StateExited || s.ExitCode != 7 {
			t.Errorf("ended without a daemon %v: it is %s with %d", meanwhile, s.Status, s.ExitCode)
		}
		// Any other start is as ever.
		w.start(id)
		if diff := cmp.Diff([]string{"sleep"}, w.inspect(id).Config.Cmd); diff != "" {
			t.Errorf("command (-want +got)\n%s", diff)
		}
		if v := c.view(); v.noRestart || v.Life.Once != nil || v.config() != v.Config {
			t.Errorf("a start by hand is still that once: %+v", v.Life.Once)
		}
	}
}
