package runtime

import (
	"strings"
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

// The first process lives on while a child, then an exec is killed. It waits
// without forking, which fails while memory is short.
func TestOOMKillsWhileItRuns(t *testing.T) {
	w := newWorld(t)
	b := w.limited(w.shell("read go; " + hungry + "; echo dd: $?; read stop; exit 0"))
	b.OpenStdin = true
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdin: true, Stdout: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))
	say := func(line string) {
		_, err := conn.WriteString(line + "\n")
		w.must(err)
	}

	say("go")
	w.toldOfOOM(c)
	// The kernel tells before the memory is free, which an exec needs some of.
	var out strings.Builder
	for !strings.Contains(out.String(), "dd: 137\n") {
		var b [512]byte
		n, err := conn.Read(b[:])
		w.must(err)
		out.Write(b[:n])
	}
	if _, exit := w.execRun(c, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"); exit.Code != 137 {
		t.Errorf("exec ended with %+v, want 137", exit)
	}
	w.toldOfOOM(c)
	select {
	case <-c.Done():
		t.Fatalf("the first process has ended: %+v", c.Exit())
	case <-c.OOM():
		t.Error("told of a kill that was none")
	default:
	}
	say("stop")
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
