package calltrace

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/internal/testenv/bpftest"
)

// lines collects what is told of, each event as one line.
type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) add(e *Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, line(e))
	return nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list, "\n")
}

func line(e *Event) string {
	switch e.Kind {
	case Call:
		text := (&syscalls.Printer{}).Enter(e.Call, e.Memory)
		text.Retry(e.Memory)
		args, result := text.Exit(e.Ret, e.Memory)
		if e.Denied {
			result += " DENIED"
		}
		return text.Name() + args + " = " + result
	case Exec:
		return fmt.Sprintf("exec %s %q", e.File, e.Args)
	case Exit:
		return "exit " + syscalls.WaitStatus(e.Status)
	case Signal:
		return fmt.Sprintf("signal %v from %d, here %v, ignored %v", e.Signal, e.Sender, e.FromHere, e.Ignored)
	case TCP:
		return fmt.Sprintf("tcp %v>%v %v->%v", e.From, e.To, e.Old, e.New)
	}
	return "?"
}

// traced traces a group in which script runs, which begins when it is told to.
func traced(t *testing.T, o Options, script string) (*Tracer, *lines, io.Writer, int) {
	t.Helper()
	_, g := bpftest.Group(t)
	o.Group, o.Part = bpftest.ID(t, g, ""), bpftest.ID(t, g, cgroup.App)
	tr, err := Open(o)
	if probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, got.add, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	cmd, in := bpftest.Process(t, g, "echo; read x; "+script)
	return tr, got, in, cmd.Process.Pid
}

func (l *lines) until(t *testing.T, wants ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, want := range wants {
		for !strings.Contains(l.text(), want) {
			if <-tick.C; time.Now().After(deadline) {
				t.Fatalf("waited in vain for %q; seen:\n%s", want, l.text())
			}
		}
	}
}

func TestCalls(t *testing.T) {
	_, got, in, _ := traced(t, Options{}, "cd /proc; cat /etc/hostname /no/such/file 2>/dev/null; kill -USR1 1 2>/dev/null; echo end >/dev/null; read x")
	_, _ = io.WriteString(in, "go\n")
	got.until(t, `chdir("/proc") = 0`, `"/no/such/file", O_RDONLY`, `-1 ENOENT (No such file or directory)`, `write(1, 0x`, `execve("/`)
}

func TestSelected(t *testing.T) {
	_, got, in, _ := traced(t, Options{Calls: []string{"chdir"}, Failed: true}, "cd /tmp; cd /no/such; cd /neither; read x")
	_, _ = io.WriteString(in, "go\n")
	got.until(t, `chdir("/neither")`)
	for l := range strings.SplitSeq(got.text(), "\n") {
		if !strings.HasPrefix(l, "chdir(") || !strings.Contains(l, "-1 ENOENT") {
			t.Errorf("was not asked for: %s", l)
		}
	}
}

func TestSlow(t *testing.T) {
	_, got, in, _ := traced(t, Options{Slow: 50 * time.Millisecond}, "cd /tmp; sleep 0.2; read x")
	_, _ = io.WriteString(in, "go\n")
	got.until(t, "nanosleep(")
	if strings.Contains(got.text(), "chdir") {
		t.Errorf("a quick call is there:\n%s", got.text())
	}
}

func TestSummary(t *testing.T) {
	tr, _, in, _ := traced(t, Options{Summary: true}, "for i in 1 2 3 4 5; do cd /no/such; cd /; done 2>/dev/null; echo end; read x")
	_, _ = io.WriteString(in, "go\n")
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := tr.Summary()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]uint64{}
		for _, s := range list {
			found[s.Name+" "+strconv.Itoa(int(s.Error))] = s.Calls
			if s.Took < 0 || s.Longest > s.Took {
				t.Errorf("%+v", s)
			}
		}
		if found["chdir 0"] == 5 && found["chdir 2"] == 5 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v", found)
		}
		<-tick.C
	}
}

func TestProcesses(t *testing.T) {
	_, got, in, pid := traced(t, Options{Kinds: []Kind{Exec, Exit, Signal}}, "sleep 0.01; sh -c 'exit 3'; sh -c 'kill -TERM $$'; kill -USR2 $$; read x")
	_, _ = io.WriteString(in, "go\n")
	got.until(t, `["sleep" "0.01"]`, "exit {WIFEXITED(s) && WEXITSTATUS(s) == 3}", "exit {WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM}",
		fmt.Sprintf("signal %v from %d, here true", syscall.SIGUSR2, pid))
}

func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	bash := testenv.NeedsProgram(t, "bash")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, got, in, _ := traced(t, Options{Kinds: []Kind{TCP}}, fmt.Sprintf("%s -c 'exec 3<>/dev/tcp/127.0.0.1/%s; cat <&3'; read x", bash, port))
	_, _ = io.WriteString(in, "go\n")
	got.until(t, ">127.0.0.1:"+port+" CLOSE->SYN-SENT", ">127.0.0.1:"+port+" SYN-SENT->ESTAB")
}

// TestEndOfAFlood: a trace ends when it is told to, although events never cease.
func TestEndOfAFlood(t *testing.T) {
	_, g := bpftest.Group(t)
	tr, err := Open(Options{Group: bpftest.ID(t, g, ""), Part: bpftest.ID(t, g, cgroup.App), Ring: 64 << 10})
	if probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, in := bpftest.Process(t, g, "echo; read x; exec dd if=/dev/zero of=/dev/null bs=1 2>/dev/null")
	_, _ = io.WriteString(in, "go\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		n := 0
		done <- tr.Run(ctx, func(*Event) error {
			if n++; n == 500 {
				cancel()
			}
			<-time.After(time.Millisecond) // slower than they come
			return nil
		}, nil)
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// TestAnswered: what seccomp has answered without an error was not refused.
func TestAnswered(t *testing.T) {
	for ret, want := range map[int64]bool{-1: true, -38: true, 0: false, 39: false} {
		var e Event
		call(&e, &head{Flags: flagDenied, Ret: ret}, nil)
		if e.Denied != want {
			t.Errorf("of %d it says %v", ret, e.Denied)
		}
	}
}

func TestNoGroup(t *testing.T) {
	if _, err := Open(Options{}); !probe.IsUnsupported(err) {
		t.Errorf("all of the host is traced: %v", err)
	}
}

func TestUnknownCall(t *testing.T) {
	if _, err := Open(Options{Group: 1, Part: 2, Calls: []string{"opennat"}}); err == nil || !strings.Contains(err.Error(), "opennat") {
		t.Errorf("got %v", err)
	}
}
