package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
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

// continueShim undoes stopShim.
func (w *world) continueShim(c *Container) {
	w.t.Helper()
	pids, err := c.shimPids()
	w.must(err)
	for _, pid := range pids {
		w.must(syscall.Kill(pid, syscall.SIGCONT))
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
	t.Parallel() // it is slow, but uses nothing
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
	t.Parallel() // it is slow, but uses nothing
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

// TestStoppedShimIsNamed: what a container's shim has to do itself fails after a while, by an error that says which
// process does not answer and why; once it goes on, so does everything, and nothing that was given up is left running.
func TestStoppedShimIsNamed(t *testing.T) {
	t.Parallel() // it is slow, but uses nothing
	w := newWorld(t)
	w.r.patience = 0 // after the first sign of life that does not come
	c := w.start(w.bundle("sleep", "1000"))
	w.stopShim(c)
	pids, err := c.shimPids()
	w.must(err)
	want := fmt.Sprintf("pid %d, is stopped; kill -CONT %d lets it go on", pids[0], pids[0])
	options := ExecOptions{ID: "late", Process: &specs.Process{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, Cwd: "/"}}
	for name, call := range map[string]func(ctx context.Context) error{
		"signal": func(ctx context.Context) error { return c.Signal(ctx, syscall.SIGHUP) },
		"attach": func(ctx context.Context) error {
			f, err := c.Attach(ctx, AttachOptions{Stdout: true})
			f.Close() // nil is fine
			return err
		},
		"exec": func(ctx context.Context) error { _, err := c.Exec(ctx, options); return err },
	} {
		begin := time.Now()
		err := call(w.context())
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if took := time.Since(begin); took > 4*answerTimeout {
			t.Errorf("%s took %v", name, took)
		}
	}
	w.continueShim(c)
	w.eventually("the shim has answered", func() bool { return c.shim().Owing() == nil })
	w.eventually("only the first process is left", func() bool {
		pids, err := c.group.Pids()
		return err == nil && len(pids) == 1
	})
	// Of the same id: nothing remembers the one that was given up, a moment after its process has gone.
	var p *Process
	w.eventually("the id is free", func() bool {
		p, err = c.Exec(w.context(), options)
		return err == nil || !strings.Contains(err.Error(), "exists")
	})
	w.must(err)
	w.must(p.Start(w.context()))
	w.must(p.Signal(w.context(), syscall.SIGKILL))
	w.wait(p.Done())
	w.must(c.Delete(w.context()))
}

// TestManyRequestsToStoppedShim: they do not pile up in its socket until nobody can ask anything any more, and the
// container outlives a conversation that broke off.
func TestManyRequestsToStoppedShim(t *testing.T) {
	t.Parallel() // it is slow, but uses nothing
	w := newWorld(t)
	w.r.patience = 0
	c := w.start(w.bundle("sleep", "1000"))
	w.stopShim(c)
	const callers = 60
	failed := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := c.Exec(w.context(), ExecOptions{
				ID: fmt.Sprint(i), Process: &specs.Process{Args: []string{"true", strings.Repeat("x", 20_000)}, Env: []string{"PATH=/bin"}, Cwd: "/"},
			})
			failed <- err
		}()
	}
	for range callers {
		select {
		case err := <-failed:
			if err == nil {
				t.Error("exec in a container whose shim is stopped succeeded")
			}
		case <-time.After(60 * time.Second):
			t.Fatal("a caller waits for ever")
		}
	}
	w.continueShim(c)
	w.eventually("the shim answers", func() bool { return c.ask(w.context(), "state", nil) == nil })
	select {
	case <-c.Done():
		t.Error("the container has ended")
	default:
	}
	w.must(c.Delete(w.context()))
}
