package runtime

import (
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hungry takes twice the memory that there is, without leaving the shell.
const hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1"

func (w *world) limited(b Bundle) Bundle {
	limit := int64(32 << 20)
	b.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	return b
}

func (w *world) toldOfOOM(c *Container) {
	w.t.Helper()
	select {
	case <-c.OOM():
	case <-time.After(10 * time.Second):
		w.t.Fatal("not told of the kill")
	}
}

// The first process lives on while a child, then an exec is killed.
func TestOOMKillsWhileItRuns(t *testing.T) {
	w := newWorld(t)
	b := w.limited(w.shell("while ! test -e /eat; do sleep 0.02; done; " + hungry + "; echo dd: $?; while ! test -e /stop; do sleep 0.02; done"))
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdout: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))

	w.execRun(c, "touch", "/eat")
	w.toldOfOOM(c)
	if _, exit := w.execRun(c, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"); exit.Code != 137 {
		t.Errorf("exec ended with %+v, want 137", exit)
	}
	w.toldOfOOM(c)
	select {
	case <-c.Done():
		t.Fatal("the first process has ended")
	case <-c.OOM():
		t.Error("told of a kill that was none")
	default:
	}
	w.execRun(c, "touch", "/stop")
	if out := w.read(conn, false); out != "Killed\ndd: 137\n" {
		t.Errorf("output %q", out)
	}
	w.wait(c.Done())
	if e := c.Exit(); e.Code != 0 || !e.OOMKilled {
		t.Errorf("exit = %+v, want 0, OOMKilled", e)
	}
}

// Kills while nobody looks are told by Load, and only those.
func TestOOMKillsBeforeLoad(t *testing.T) {
	w := newWorld(t)
	b := w.limited(w.bundle("sleep", "1000"))
	first := w.start(b)
	w.must(first.Release())
	c, err := w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir)
	w.must(err)
	select {
	case <-c.OOM():
		t.Error("told of a kill that was none")
	default:
	}
	w.execRun(c, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
	w.toldOfOOM(c)
	w.must(c.Release())
	c, err = w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir)
	w.must(err)
	defer w.delete(c)
	select {
	case <-c.OOM():
	default:
		t.Error("Load did not tell of an earlier kill")
	}
}
