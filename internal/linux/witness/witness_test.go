package witness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/internal/testenv/bpftest"
)

// watched opens a Witness over a parent group of its own, and gives a group below it.
func watched(t *testing.T) (*Witness, *cgroup.Group) {
	t.Helper()
	parent, group := bpftest.Group(t)
	bpftest.ID(t, parent, "")
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

func TestSender(t *testing.T) {
	w, g := watched(t)
	before := time.Now()
	victim, _ := bpftest.Process(t, g, "echo; read x")
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
	victim, _ := bpftest.Process(t, g, "echo; read x")
	bpftest.Process(t, g, fmt.Sprintf("echo; while ! grep -q container /proc/self/cgroup; do sleep 0.02; done; kill -TERM %d; read x", victim.Process.Pid))
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
	victim, _ := bpftest.Process(t, g, "trap '' TERM; echo; read x")
	if err := victim.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s, ok := w.Signal(victim.Process.Pid, syscall.SIGTERM, time.Time{})
	if !ok || !s.Ignored || s.From.PID != os.Getpid() {
		t.Errorf("%+v, %v", s, ok)
	}
}

// TestTimer: a timer is due amidst whatever process runs, which has sent nothing.
func TestTimer(t *testing.T) {
	timeout := testenv.NeedsProgram(t, "timeout")
	w, g := watched(t)
	before := time.Now()
	victim, in := bpftest.Process(t, g, "echo; read x; exec "+timeout+" 0.05 sleep 60")
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	if s, ok := w.Signal(victim.Process.Pid, syscall.SIGALRM, before.Add(-time.Second)); !ok || !s.Kernel {
		t.Errorf("%+v, %v; want one of the kernel", s, ok)
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
