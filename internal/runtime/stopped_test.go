package runtime

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// stopShim stops the shim of a container as a signal by hand does.
func (w *world) stopShim(c *Container) {
	w.t.Helper()
	pids, err := c.shimPids()
	w.must(err)
	if len(pids) == 0 {
		w.t.Fatal("there is no shim")
	}
	for _, pid := range pids {
		w.must(syscall.Kill(pid, syscall.SIGSTOP))
		w.eventually("the shim is stopped", func() bool {
			b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			return err == nil && strings.Contains(string(b), ") T ")
		})
	}
}

func (w *world) wantNothingLeft(c *Container) {
	w.t.Helper()
	if c.group.Exists() {
		w.t.Error("the cgroup is left")
	}
	if _, err := os.Stat(c.runDir); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("the run directory is left: %v", err)
	}
	if pids, err := c.shimPids(); err != nil || len(pids) != 0 {
		w.t.Errorf("shims left: %v %v", pids, err)
	}
}

// TestStoppedShim: a shim that does not answer delays nobody for long, and its container can be deleted.
func TestStoppedShim(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	w.stopShim(c)
	begin := time.Now()
	if err := c.Signal(w.context(), syscall.SIGTERM); !errors.Is(err, errNoAnswer) {
		t.Errorf("Signal() = %v, want %v", err, errNoAnswer)
	}
	w.must(c.Delete(w.context()))
	if took := time.Since(begin); took > 3*answerTimeout {
		t.Errorf("signal and delete took %v", took)
	}
	w.wait(c.Done())
	w.wantNothingLeft(c)
}

// TestStoppedShimIsNotAdopted: nor does it hold up a new daemon, which may give it up.
func TestStoppedShimIsNotAdopted(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sleep", "1000")
	c := w.start(b)
	w.must(c.Release())
	w.stopShim(c)
	if _, err := w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir); !errors.Is(err, errNoAnswer) || errdefs.IsNotFound(err) {
		t.Errorf("Load() = %v, want %v", err, errNoAnswer)
	}
	w.must(w.r.Discard(w.context(), b.ID))
	w.wantNothingLeft(c)
	w.must(w.r.Discard(w.context(), b.ID))
}
