package calltrace

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/internal/testenv/bpftest"
)

// record records a group in which script runs, which begins when it is told to.
func record(t *testing.T, events int, when Begins, script string) (*Box, *exec.Cmd, io.Writer) {
	t.Helper()
	parent, g := bpftest.Group(t)
	r, err := OpenRecorder(bpftest.ID(t, parent, ""), events)
	if probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	var b *Box
	begin := func() {
		if b, err = r.Record(bpftest.ID(t, g, cgroup.App), when); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if when == Before {
		begin()
	}
	cmd, in := bpftest.Process(t, g, "echo; read x\n"+script)
	if when == Amidst {
		begin()
	}
	return b, cmd, in
}

// content is what a box has, each event as a line.
func content(t *testing.T, b *Box) (list []string, k Kept) {
	t.Helper()
	k, err := b.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range k.Events {
		text := line(e)
		if e.Unfinished {
			text = text[:strings.LastIndex(text, " = ")] + " = ?"
		}
		list = append(list, text)
	}
	return list, k
}

// ended lets a recorded script run to its end.
func ended(t *testing.T, events int, when Begins, script string) ([]string, Kept) {
	t.Helper()
	b, cmd, in := record(t, events, when, script)
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	return content(t, b)
}

// TestRecorded: from the first program on all is there, with the call in which a process
// has ended, and nothing of what was in the group before.
func TestRecorded(t *testing.T) {
	list, k := ended(t, 4096, Before, "cd /proc; exec cat /etc/hostname /no/such/file")
	text := strings.Join(list, "\n")
	if len(list) == 0 || !strings.HasPrefix(list[0], "exec /") || !strings.Contains(list[0], `"/etc/hostname"`) || strings.Contains(text, "chdir(") {
		t.Fatalf("got\n%s", text)
	}
	for _, want := range []string{`openat(AT_FDCWD, "/no/such/file", O_RDONLY) = -1 ENOENT`, "exit_group(1) = ?\nexit "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if k.Seen != uint64(len(list)) || k.Lost != 0 {
		t.Errorf("%d of %d, %d lost", len(list), k.Seen, k.Lost)
	}
}

// TestRecordedAmidst: of what runs already all counts.
func TestRecordedAmidst(t *testing.T) {
	list, _ := ended(t, 4096, Amidst, "cd /proc; true; kill -KILL $$")
	text := strings.Join(list, "\n")
	for _, want := range []string{`chdir("/proc") = 0`, "signal killed from ", "exit {WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestRecordIsBounded: of many events there are the last.
func TestRecordIsBounded(t *testing.T) {
	const many = 256
	list, k := ended(t, many-1, Amidst, "i=0; while [ $i -lt 2000 ]; do cd /proc; i=$((i+1)); done; exit 3")
	if len(list) != many || k.Seen < 2000 || list[many-2] != "exit_group(3) = ?" {
		t.Errorf("%d are kept of %d, the last but one is %s", len(list), k.Seen, list[len(list)-2])
	}
	if n := BoxBytes(many - 1); n != many*slotSize {
		t.Errorf("a box has %d bytes", n)
	}
}

// TestInside: what a task is in the midst of is told without waiting for it.
func TestInside(t *testing.T) {
	b, cmd, in := record(t, 256, Amidst, "cd /; read y")
	_, _ = io.WriteString(in, "go\n")
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := b.Inside([]int{cmd.Process.Pid, 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].Unfinished && list[0].PID == cmd.Process.Pid && strings.HasPrefix(line(list[0]), "read(0") && list[0].Took > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v", list)
		}
		<-tick.C
	}
}

// TestRecordsApart: each of several boxes has its own, and one that is closed makes room.
func TestRecordsApart(t *testing.T) {
	parent, g := bpftest.Group(t)
	r, err := OpenRecorder(bpftest.ID(t, parent, ""), 64)
	if probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	id := bpftest.ID(t, g, cgroup.App)
	var boxes []*Box
	for i := range MaxBoxes {
		b, err := r.Record(id+uint64(i), Amidst)
		if err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, b)
	}
	if _, err := r.Record(id+MaxBoxes, Amidst); err == nil {
		t.Error("there is one more than can be")
	}
	if _, err := r.Record(id, Amidst); err == nil {
		t.Error("there are two of one group")
	}
	cmd, in := bpftest.Process(t, g, "echo; read x; exec cat /dev/null")
	_, _ = io.WriteString(in, "go\n")
	_ = cmd.Wait()
	for i, b := range boxes {
		list, _ := content(t, b)
		if (len(list) > 0) != (i == 0) {
			t.Errorf("box %d has %v", i, list)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	b, err := r.Record(id, Amidst)
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := content(t, b); len(list) != 0 {
		t.Errorf("a new one begins with %v", list)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkRecord is what a call costs: of one who is recorded, of another one, and
// without any recorder.
func BenchmarkRecord(b *testing.B) {
	for _, tt := range []struct {
		name  string
		boxes int
		own   bool
	}{{"none", 0, false}, {"another", 1, false}, {"20others", 20, false}, {"recorded", 1, true}, {"recordedOf20", 20, true}} {
		b.Run(tt.name, func(b *testing.B) {
			parent, g := bpftest.Group(b)
			id, err := g.ID(cgroup.App)
			if err != nil {
				b.Fatal(err)
			}
			if tt.boxes > 0 {
				top, err := parent.ID("")
				if err != nil {
					b.Fatal(err)
				}
				r, err := OpenRecorder(top, 8192)
				if err != nil {
					b.Fatal(err)
				}
				defer r.Close()
				for i := range tt.boxes {
					at := id + uint64(i)
					if !tt.own {
						at++
					}
					box, err := r.Record(at, Amidst)
					if err != nil {
						b.Fatal(err)
					}
					defer box.Close()
				}
			}
			// dd makes two calls for each block.
			cmd, in := bpftest.Process(b, g, fmt.Sprintf("echo; read x; exec dd if=/dev/zero of=/dev/null bs=1 count=%d 2>/dev/null", max(1, b.N/2)))
			b.ResetTimer()
			_, _ = io.WriteString(in, "go\n")
			_ = cmd.Wait()
			b.ReportMetric(float64(cmd.ProcessState.SystemTime()+cmd.ProcessState.UserTime())/float64(b.N), "cpu-ns/op")
		})
	}
}
