package witness

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/testenv/bpftest"
)

// follower keeps what is told.
type follower struct {
	w    *Witness
	mu   sync.Mutex
	list []Deed
}

// followed is a Witness that is followed, and a group below its parent.
func followed(t *testing.T) (*follower, *cgroup.Group) {
	t.Helper()
	w, g := watched(t)
	f := &follower{w: w}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.Follow(ctx, func(d *Deed) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.list = append(f.list, *d)
		}, func() {})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, g
}

// all are the deeds so far.
func (f *follower) all(t *testing.T) []Deed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f.w.Drain(ctx)
	if err := ctx.Err(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// find is the first deed of which a test is true.
func find(t *testing.T, list []Deed, what string, test func(Deed) bool) Deed {
	t.Helper()
	i := slices.IndexFunc(list, test)
	if i < 0 {
		t.Fatalf("no %s in %+v", what, list)
	}
	return list[i]
}

// play has a shell in the group execute a script, and waits for its end.
func play(t *testing.T, g *cgroup.Group, script string) (pid int) {
	t.Helper()
	cmd, in := bpftest.Process(t, g, "echo; read x\n"+script)
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return cmd.Process.Pid
}

func TestDeeds(t *testing.T) {
	f, g := followed(t)
	group, err := g.ID("")
	if err != nil {
		t.Fatal(err)
	}
	part, err := g.ID(cgroup.App)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Second)
	sh := play(t, g, "sh -c 'exit 3'\nsh -c 'kill -SEGV $$'\ntrue")
	list := f.all(t)
	run := find(t, list, "program", func(d Deed) bool { return d.Kind == Exec && slices.Contains(d.Args, "exit 3") })
	if run.Group != group || run.Part != part || run.Parent != sh || run.PID == 0 || !strings.HasSuffix(run.File, "/sh") || run.Cut || run.Time.Before(began) {
		t.Errorf("%+v", run)
	}
	end := find(t, list, "end", func(d Deed) bool { return d.Kind == Exit && d.PID == run.PID })
	if end.Status.ExitStatus() != 3 || end.Lived <= 0 || end.Time.Before(run.Time) {
		t.Errorf("%+v", end)
	}
	crash := find(t, list, "crash", func(d Deed) bool { return d.Kind == Exit && d.Status.Signaled() })
	if crash.Status.Signal() != syscall.SIGSEGV || crash.Parent != sh {
		t.Errorf("%+v", crash)
	}
	sent := find(t, list, "signal", func(d Deed) bool { return d.Kind == Sent && d.Signal == syscall.SIGSEGV })
	if sent.PID != crash.PID || sent.From.PID != crash.PID || sent.Kernel || sent.Ignored || sent.From.Group != group {
		t.Errorf("%+v", sent)
	}
}

// TestBudget: a container to which something happens all the time is not told of with
// each, and what was left out is counted.
func TestBudget(t *testing.T) {
	f, g := followed(t)
	const signals = 20000
	// Two seconds later there is a budget again, for the end.
	play(t, g, fmt.Sprintf("trap '' USR1; i=0; while [ $i -lt %d ]; do kill -USR1 $$; i=$((i+1)); done; sleep 2; exit 7", signals))
	list := f.all(t)
	dropped := 0
	for _, d := range list {
		dropped += d.Dropped
	}
	// As many as the seconds that it took give.
	if told := len(list); dropped == 0 || told+dropped < signals {
		t.Errorf("%d told, %d left out", told, dropped)
	}
	find(t, list, "failure", func(d Deed) bool { return d.Kind == Exit && d.Status.ExitStatus() == 7 })
	c, err := f.w.Counts()
	if err != nil || c.Dropped != uint64(dropped) || c.Told != uint64(len(list)) {
		t.Errorf("%+v, %v: %d told, %d left out", c, err, len(list), dropped)
	}
}

func TestConnections(t *testing.T) {
	f, g := followed(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().(*net.TCPAddr).AddrPort()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().(*net.TCPAddr).AddrPort()
	gone.Close()
	defer l.Close()
	dial := func(a string) string { return "bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + a + "' 2>/dev/null\n" }
	port := func(a string) string { return a[strings.LastIndex(a, ":")+1:] }
	play(t, g, strings.Repeat(dial(port(open.String())), 3)+dial(port(closed.String())))
	list := f.all(t)
	ok := find(t, list, "connection", func(d Deed) bool { return d.Kind == Connect && d.Remote == open })
	if ok.PID == 0 || ok.Comm != "bash" || !ok.Local.IsValid() {
		t.Errorf("%+v", ok)
	}
	if n := len(slices.DeleteFunc(slices.Clone(list), func(d Deed) bool { return d.Kind != Connect })); n != 1 {
		t.Errorf("%d connections to one place are told of, right after each other", n)
	}
	no := find(t, list, "refusal", func(d Deed) bool { return d.Kind == Refused })
	if no.Remote != closed || no.Error != syscall.ECONNREFUSED || no.PID == 0 {
		t.Errorf("%+v", no)
	}
}

// BenchmarkProgram is a program that begins and ends at once: where nobody watches
// it, outside of what is watched, and in a container.
func BenchmarkProgram(b *testing.B) {
	run := func(b *testing.B, g *cgroup.Group) {
		b.Helper()
		var took []time.Duration
		for b.Loop() {
			cmd := exec.Command("/bin/true")
			if g != nil {
				dir, err := os.Open(g.Dir(cgroup.App))
				if err != nil {
					b.Fatal(err)
				}
				defer dir.Close()
				cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
			}
			began := time.Now()
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[0].Microseconds()), "min-us")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
	}
	parent, group := bpftest.Group(b)
	for range 3 {
		b.Run("unwatched", func(b *testing.B) { run(b, group) })
		w, err := Open(func() (uint64, error) { return parent.ID("") })
		if err != nil {
			b.Fatal(err)
		}
		b.Run("elsewhere", func(b *testing.B) { run(b, nil) })
		b.Run("watched", func(b *testing.B) { run(b, group) })
		if err := w.Close(); err != nil {
			b.Error(err)
		}
		b.Run("unwatched-elsewhere", func(b *testing.B) { run(b, nil) })
	}
}
