package witness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/testenv"
)

// watched opens a Witness over a parent group of its own, and gives a group below it.
func watched(t *testing.T) (*Witness, *cgroup.Group) {
	t.Helper()
	testenv.NeedsRoot(t)
	if err := bpf.Available(); probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	name := fmt.Sprintf("/porthole-test-witness-%d", os.Getpid())
	parent, group := cgroup.New(name+"/x"), cgroup.New(name+"/x/container")
	if _, err := group.Create(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := group.Destroy(ctx); err != nil {
			t.Error(err)
		}
		tree, err := cgroup.Current()
		if err == nil {
			err = tree.Prune(name + "/x")
		}
		if err != nil {
			t.Error(err)
		}
	})
	w, err := Open(func() (uint64, error) { return parent.ID("") })
	if probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, group
}

// sleeper is a process in a group.
func sleeper(t *testing.T, g *cgroup.Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has set up what it should
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid, cgroup.App); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestSender(t *testing.T) {
	w, g := watched(t)
	before := time.Now()
	victim := sleeper(t, g, "echo; read x")
	killer := exec.Command("sh", "-c", "exec kill -KILL "+strconv.Itoa(victim.Process.Pid))
	if out, err := killer.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = victim.Wait()
	s, ok := w.Signal(victim.Process.Pid, syscall.SIGKILL, before.Add(-time.Second))
	if !ok {
		t.Fatal("nothing is known of the signal")
	}
	if s.From.PID != killer.Process.Pid || s.From.Parent != os.Getpid() || s.From.UID != 0 || s.From.Group != 0 {
		t.Errorf("sender %+v, want pid %d of parent %d", s.From, killer.Process.Pid, os.Getpid())
	}
	if got := s.From.Command(); !strings.Contains(got, "kill") {
		t.Errorf("command %q", got)
	}
	if s.Kernel || s.OOM || s.Ignored {
		t.Errorf("%+v", s)
	}
	if since := time.Since(s.Time); since < 0 || since > time.Since(before)+time.Second {
		t.Errorf("sent %v ago", since)
	}
	if _, ok := w.Signal(victim.Process.Pid, syscall.SIGTERM, time.Time{}); ok {
		t.Error("another signal is known, which was not sent")
	}
	if _, ok := w.Signal(victim.Process.Pid, syscall.SIGKILL, time.Now().Add(time.Minute)); ok {
		t.Error("a signal counts that is older than asked for")
	}
	c, err := w.Counts()
	if err != nil || c.Seen == 0 || c.Remembered == 0 || c.Failed != 0 {
		t.Errorf("counts %+v, %v", c, err)
	}
}

// TestInside: the sender is a process of the same group.
func TestInside(t *testing.T) {
	w, g := watched(t)
	victim := sleeper(t, g, "echo; read x")
	sleeper(t, g, fmt.Sprintf("echo; while ! grep -q container /proc/self/cgroup; do sleep 0.02; done; kill -TERM %d; read x", victim.Process.Pid))
	_ = victim.Wait()
	id, err := g.ID("")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := w.Signal(victim.Process.Pid, syscall.SIGTERM, time.Time{}); !ok || s.From.Group != id {
		t.Errorf("%+v, %v; want a sender in group %d", s, ok, id)
	}
}

// TestIgnored: a signal that is ignored has no effect, and is known all the same.
func TestIgnored(t *testing.T) {
	w, g := watched(t)
	victim := sleeper(t, g, "trap '' TERM; echo; read x")
	if err := victim.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s, ok := w.Signal(victim.Process.Pid, syscall.SIGTERM, time.Time{})
	if !ok || !s.Ignored || s.From.PID != os.Getpid() {
		t.Errorf("%+v, %v", s, ok)
	}
}

// TestOthers: processes elsewhere are nobody's business.
func TestOthers(t *testing.T) {
	w, _ := watched(t)
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if s, ok := w.Signal(cmd.Process.Pid, syscall.SIGKILL, time.Time{}); ok {
		t.Errorf("known: %+v", s)
	}
}

func TestNil(t *testing.T) {
	var w *Witness
	if _, ok := w.Signal(1, syscall.SIGKILL, time.Time{}); ok {
		t.Error("a Witness that is none has seen something")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
