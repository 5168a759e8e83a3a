package exhaust

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
	"github.com/portholehq/porthole/test/crash/calls"
)

const (
	// settling is how long things may take to come to pass.
	settling = 30 * time.Second
	// slack is how many descriptors and goroutines may come and go by themselves.
	slack = 10
)

func TestMain(m *testing.M) {
	calls.Main()
	bed.Main(m, nil)
}

// world is a daemon under attack.
type world struct {
	*bed.Daemon
	t *testing.T
}

// newWorld starts a daemon with the image busybox, in which everything was used once. prepare, which may be nil, is called with the
// directory that it will have.
func newWorld(t *testing.T, o bed.Options, prepare func(dir string)) *world {
	t.Helper()
	testenv.NeedsRoot(t)
	dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-exhaust-") //nolint:usetesting // on a disk, as users have it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if prepare != nil {
		prepare(dir)
	}
	o.Dir = dir
	d, err := bed.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Daemon: d, t: t}
	t.Cleanup(func() {
		if lines := d.Panics(0); len(lines) > 0 {
			t.Errorf("the daemon panicked: %q\n%s", lines, d.LogTail(8192))
		} else if t.Failed() {
			t.Logf("the daemon's log ends so:\n%s", d.LogTail(8192))
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	w.must("load", "-q", "-i", bed.Archive("busybox"))
	w.must("run", "--rm", "-p", "127.0.0.1::80", "busybox", "true")
	return w
}

// try runs a command, which has to end, and returns both of its outputs.
func (w *world) try(args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*settling)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.Host())
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		w.t.Errorf("%q did not end: %s", args, out)
	}
	return strings.TrimSuffix(string(out), "\n"), err
}

// must runs a command that has to succeed, and returns its standard output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*settling)
	defer cancel()
	out, err := w.Porthole(ctx, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// both runs a command that has to succeed, and returns both outputs.
func (w *world) both(args ...string) string {
	w.t.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// until repeats a command until its output has a text.
func (w *world) until(text string, args ...string) string {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); ; <-tick.C {
		out, err := w.try(args...)
		if strings.Contains(out, text) {
			return out
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%q: no %q in\n%s\n%v", args, text, out, err)
		}
	}
}

// snapshot is all that there is now.
func (w *world) snapshot() bed.Snapshot {
	w.t.Helper()
	s, err := w.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// cleared removes all containers but one, and fails if then anything is there that was not at before.
func (w *world) cleared(before bed.Snapshot, but string) {
	w.t.Helper()
	ids := []string{"rm", "-f", "-v"}
	for line := range strings.Lines(w.must("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}")) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name != but {
			ids = append(ids, id)
		}
	}
	if len(ids) > 3 {
		w.must(ids...)
	}
	w.settled(before)
}

// settled fails if anything stays that was not there at before.
func (w *world) settled(before bed.Snapshot) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settling)
	defer cancel()
	if left, err := w.Settled(ctx, before, slack); err != nil || len(left) > 0 {
		w.t.Errorf("left behind, %v:\n  %s", err, strings.Join(left, "\n  "))
	}
}

// said fails unless a text has each of the parts.
func said(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

// pid is the first process of a container.
func (w *world) pid(name string) int {
	w.t.Helper()
	return number(w.t, w.must("inspect", "-f", "{{.State.Pid}}", name))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// kill sends SIGKILL.
func kill(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); ; <-tick.C {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("process %d lives", pid)
			return
		}
	}
}

// attack runs one attack, which returns what came of it. All containers but the bystander are removed after it, and nothing else
// may stay.
func attack(t *testing.T, w *world, name string, f func(w *world) (came string)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		w := &world{Daemon: w.Daemon, t: t}
		before := w.snapshot()
		began := time.Now()
		came := f(w)
		w.cleared(before, "bystander")
		if w.must("exec", "bystander", "echo", "alive") != "alive" {
			t.Error("the bystander does not live")
		}
		t.Logf("%s (%v): %s", name, time.Since(began).Round(10*time.Millisecond), came)
	})
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
