package death

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/kmsg"
	"github.com/portholehq/porthole/internal/record/sample"
)

func TestExitOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status uint32
		want   Exit
	}{
		{"code", 7 << 8, Exit{Observed: true, WaitStatus: 7 << 8, Code: 7}},
		{"zero", 0, Exit{Observed: true}},
		{"signal", 9, Exit{Observed: true, WaitStatus: 9, Code: 137, Signal: syscall.SIGKILL}},
		{"signal with core", 11 | 0x80, Exit{Observed: true, WaitStatus: 11 | 0x80, Code: 139, Signal: syscall.SIGSEGV, Core: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ExitOf(syscall.WaitStatus(tt.status))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	code := func(n int) Exit { return ExitOf(syscall.WaitStatus(n << 8)) }
	signal := func(s syscall.Signal) Exit { return ExitOf(syscall.WaitStatus(s)) }
	first, other := []OOMKill{{First: true}}, []OOMKill{{}}
	for _, tt := range []struct {
		name   string
		record Record
		want   Cause
	}{
		{"by itself", Record{Exit: code(0)}, Completed},
		{"with a code", Record{Exit: code(7)}, Failed},
		{"code that looks like a signal", Record{Exit: code(137), OOMCount: 1}, Failed},
		{"segmentation fault", Record{Exit: signal(syscall.SIGSEGV)}, Crashed},
		{"core of another signal", Record{Exit: ExitOf(syscall.WaitStatus(uint32(syscall.SIGQUIT) | 0x80))}, Crashed},
		{"from elsewhere", Record{Exit: signal(syscall.SIGKILL)}, Killed},
		{"from elsewhere, after the kernel took another", Record{Exit: signal(syscall.SIGKILL), OOMKills: other, OOMCount: 1}, Killed},
		{"out of memory", Record{Exit: signal(syscall.SIGKILL), OOMKills: first, OOMCount: 1}, OutOfMem},
		{"out of memory, only counted", Record{Exit: signal(syscall.SIGKILL), OOMCount: 1}, OutOfMem},
		{"counted, and somebody known sent it", Record{Exit: signal(syscall.SIGKILL), OOMCount: 1, Sender: &Sender{PID: 3}}, Killed},
		{"a child was out of memory", Record{Exit: code(1), OOMKills: other, OOMCount: 1}, Failed},
		{"stopped", Record{Exit: signal(syscall.SIGTERM), Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM}}, Stopped},
		{"stopped, and it ended well", Record{Exit: code(0), Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM}}, Stopped},
		{"stopped in vain", Record{Exit: signal(syscall.SIGKILL), Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM, TimedOut: true}}, TimedOut},
		{"killed by the engine", Record{Exit: signal(syscall.SIGKILL), Stop: &Stop{Action: "kill", Signal: syscall.SIGKILL}, OOMCount: 3}, Stopped},
		{"out of memory while stopping", Record{Exit: signal(syscall.SIGKILL), Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM}, OOMKills: first}, OutOfMem},
		{"not started", Record{StartError: &StartError{Errno: syscall.ENOENT}, Exit: code(127)}, NotStarted},
		{"not seen", Record{}, Lost},
		{"without its shim", Record{Shim: &ShimEnd{PID: 3}}, ShimEnded},
		{"with its shim, which did not answer", Record{Shim: &ShimEnd{PID: 3}, Stop: &Stop{Action: "kill", Signal: syscall.SIGKILL}}, Stopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Judge(&tt.record); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOOMKillIn(t *testing.T) {
	const app = "/porthole/c1/app"
	for _, tt := range []struct {
		name, task, oom string
		pid             int
		whose           Whose // empty: of no concern
		first           bool
	}{
		{"own limit", app, app, 7, OwnLimit, true},
		{"of a child", app, app, 8, OwnLimit, false},
		{"limit inside", app + "/system.slice", app + "/system.slice", 8, InnerLimit, false},
		{"limit around", app, "/porthole", 7, OuterLimit, true},
		{"machine", app, "", 7, MachineLimit, true},
		{"another container", "/porthole/c2/app", "/porthole", 7, "", false},
		{"a name that goes on", app + "2", app + "2", 7, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := kmsg.OOMKill{Task: "dd", PID: tt.pid, TaskGroup: tt.task, OOMGroup: tt.oom, AnonRSS: 3, FileRSS: 4, Limit: 5}
			got, ok := OOMKillIn(in, app, 7)
			if ok != (tt.whose != "") {
				t.Fatal(ok)
			}
			if ok && (got.Whose != tt.whose || got.First != tt.first || got.RSS != 7 || got.Task != "dd" || got.Limit != 5) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestSignalMasks(t *testing.T) {
	m := SignalMasks{Caught: 1 << (syscall.SIGTERM - 1)}
	if !m.Handles(syscall.SIGTERM) || m.Handles(syscall.SIGINT) || m.Handles(0) || m.Handles(99) {
		t.Error("wrong signals are handled")
	}
}

var epoch = time.Unix(1_764_057_600, 0).UTC()

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.MaxAge == 0 {
		o.MaxAge = 100 * 365 * 24 * time.Hour // the records of the tests are old
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *Store, r Record) {
	t.Helper()
	if err := s.Write(&r); err != nil {
		t.Fatal(err)
	}
}

// at makes a record of the end of a run, n seconds after the epoch.
func at(n int, container string, run int, exec string) Record {
	return Record{Container: container, Name: "name-" + container, Run: run, Exec: exec, Finished: epoch.Add(time.Duration(n) * time.Second), Exit: ExitOf(0)}
}

// full has something in each field.
func full() Record {
	r := at(1, "c1", 3, "")
	r.Image, r.ImageID, r.Command, r.TTY, r.Removed = "nginx", "sha256:1", []string{"nginx", "-g"}, true, true
	r.Created, r.Started = epoch, epoch.Add(time.Millisecond)
	r.Exit = ExitOf(syscall.WaitStatus(uint32(syscall.SIGSEGV) | 0x80))
	r.StartError = &StartError{Step: "exec", Path: "/x", Errno: syscall.ENOENT, Message: "no such file"}
	r.Stop = &Stop{Action: "stop", Signal: syscall.SIGTERM, At: epoch, Timeout: time.Second, TimedOut: true, By: &event.Origin{UID: new(uint32(1)), PID: 2, Command: []string{"docker"}, Subject: "CN=x"}}
	r.StartedBy = &event.Origin{PID: 3, Indirect: true}
	r.Sender = &Sender{PID: 1, UID: 2, Command: "kill", Container: "c2", Source: "tracepoint"}
	r.OOMKills = []OOMKill{{Time: epoch, Task: "dd", PID: 1, UID: 2, RSS: 3, Whose: OwnLimit, Group: "/g", Limit: 4, Usage: 5, Swap: true, Invoker: "sh", First: true}}
	r.OOMCount = 1
	r.Signals = &SignalMasks{Blocked: 1, Ignored: 2, Caught: 1 << 63}
	r.LastLines = []Line{{Time: epoch, Stream: "stdout", Text: []byte("grüße")}, {Time: epoch, Stream: "stderr", Text: []byte{0, 0xff, 'x'}}, {Time: epoch, Stream: "stdout", Text: []byte{}}}
	r.LastSamples = []sample.Sample{{Time: epoch, Known: sample.KnownCPU, CPUUsage: 1, MemoryLimit: 1<<64 - 1}}
	r.Health = &Health{Status: "unhealthy", FailingStreak: 3, LastOutput: "no"}
	r.Plan = []Step{{Name: "mount", Took: 5 * time.Microsecond}}
	r.Limits = Limits{Memory: 1, MemorySwap: 2, CPUs: 0.5, Pids: 3}
	r.Restarts, r.WillRestart, r.DaemonAbsent = 2, true, true
	return r
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	want := full()
	write(t, openStore(t, dir, Options{}), want)
	got, err := openStore(t, dir, Options{}).Find(Query{Container: "c"})
	if err != nil {
		t.Fatal(err)
	}
	want.Version, want.Cause = Version, NotStarted
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(filepath.Join(dir, "1764057601000000000-c1-3.json"))
	if err != nil || !bytes.Contains(text, []byte(`"text":"grüße"`)) {
		t.Errorf("the document is %s, %v", text, err)
	}
}

func list(t testing.TB, s *Store, q Query) []string {
	t.Helper()
	got := []string{}
	for r, err := range s.List(q) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d %s", r.Container, r.Run, r.Exec))
	}
	return got
}

func TestList(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	write(t, s, at(1, "abc", 1, ""))
	write(t, s, at(2, "abd", 1, ""))
	write(t, s, at(3, "abc", 2, ""))
	write(t, s, at(4, "abc", 2, "e1"))
	for _, tt := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all first processes", Query{}, []string{"abc 2 ", "abd 1 ", "abc 1 "}},
		{"execs too", Query{AnyExec: true, Container: "abc"}, []string{"abc 2 e1", "abc 2 ", "abc 1 "}},
		{"beginning of an id", Query{Container: "ab", Run: 1}, []string{"abd 1 ", "abc 1 "}},
		{"name", Query{Name: "name-abd"}, []string{"abd 1 "}},
		{"exec", Query{Exec: "e"}, []string{"abc 2 e1"}},
		{"since", Query{Since: epoch.Add(2 * time.Second)}, []string{"abc 2 ", "abd 1 "}},
		{"none", Query{Container: "x"}, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, list(t, s, tt.q)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := s.Find(Query{Container: "x"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	t.Run("number", func(t *testing.T) {
		s := openStore(t, t.TempDir(), Options{MaxCount: 20})
		for n := range 170 {
			write(t, s, at(n, "c", n, ""))
		}
		got := list(t, s, Query{})
		if len(got) < 20 || len(got) >= 20+pruneEvery || got[0] != "c 169 " {
			t.Errorf("%d records, the first is %q", len(got), got[0])
		}
		if _, err := s.Prune(epoch); err != nil || len(list(t, s, Query{})) != 20 {
			t.Errorf("%d records are left, %v", len(list(t, s, Query{})), err)
		}
	})
	t.Run("age", func(t *testing.T) {
		s := openStore(t, t.TempDir(), Options{})
		for n := range 10 {
			write(t, s, at(n, "c", n, ""))
		}
		removed, err := s.Prune(epoch.Add(s.options.MaxAge + 4*time.Second))
		if err != nil || removed != 4 || len(list(t, s, Query{})) != 6 {
			t.Errorf("%d removed, %v", removed, err)
		}
	})
	t.Run("of one record", func(t *testing.T) {
		s := openStore(t, t.TempDir(), Options{})
		r := at(1, "c", 1, "")
		for n := range 200 {
			r.LastLines = append(r.LastLines, Line{Text: []byte(strings.Repeat("ä", n*5))})
			r.LastSamples = append(r.LastSamples, sample.Sample{Pids: uint64(n)})
			r.OOMKills = append(r.OOMKills, OOMKill{PID: n})
		}
		write(t, s, r)
		got, err := s.Find(Query{})
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, l := range got.LastLines {
			size += len(l.Text)
		}
		if size > MaxLineBytes || size < MaxLineBytes-2 || len(got.LastSamples) != MaxSamples || len(got.OOMKills) != MaxOOMKills {
			t.Errorf("%d bytes of lines, %d samples, %d kills", size, len(got.LastSamples), len(got.OOMKills))
		}
		if got.LastSamples[MaxSamples-1].Pids != 199 || len(got.LastLines[len(got.LastLines)-1].Text) != 199*10 || len(r.LastLines[150].Text) != 150*10 {
			t.Error("the newest are not kept whole, or the caller's record was changed")
		}
	})
}

func TestBadRecordsAndFiles(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	for _, r := range []Record{{}, {Container: "../x"}, {Container: "a-b"}, {Container: "a", Exec: "e/e"}, {Container: "a", Run: -1}} {
		if err := s.Write(&r); err == nil {
			t.Errorf("written: %+v", r)
		}
	}
	write(t, s, at(1, "good", 1, ""))
	for name, text := range map[string]string{
		"0000000000000000002-torn-1.json": `{"version":1,`, "notes.txt": "", ".x.tmp1": "{", "1-c-1.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var good, bad int
	for _, err := range s.List(Query{}) {
		if err != nil {
			bad++
		} else {
			good++
		}
	}
	if good != 1 || bad != 1 {
		t.Errorf("%d good, %d bad", good, bad)
	}
	openStore(t, dir, Options{})
	if _, err := os.Stat(filepath.Join(dir, ".x.tmp1")); !errors.Is(err, os.ErrNotExist) {
		t.Error("what a killed writer left is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error("a file of somebody else is gone")
	}
}

func FuzzRecord(f *testing.F) {
	r := full()
	text, err := json.Marshal(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"last_lines":[{"bytes":"AA=="},null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		Judge(&r)
		r.bound()
		again, err := json.Marshal(&r)
		if err != nil {
			return // times beyond the year 9999
		}
		if err := json.Unmarshal(again, new(Record)); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("1764057601000000000-c1-3.json")
	f.Add("1764057601000000000-c1-3-e1.json")
	f.Fuzz(func(t *testing.T, name string) {
		if k, ok := parseName(name); ok && k.name() != name {
			t.Errorf("%q became %q", name, k.name())
		}
	})
}

// A file system that lost the end of a record, at any byte, costs that record alone.
func TestCrashAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	write(t, s, at(1, "first", 1, ""))
	last := full()
	last.Finished = epoch.Add(time.Minute)
	write(t, s, last)
	name := filepath.Join(dir, keyOf(&last).name())
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) - 1 { // without the newline it is still whole
		if err := os.WriteFile(name, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var good, bad int
		for r, err := range s.List(Query{}) {
			switch {
			case err != nil:
				bad++
			case r.Container == "first":
				good++
			}
		}
		if good != 1 || bad != 1 {
			t.Fatalf("cut to %d of %d bytes: %d good records, %d bad", n, len(whole), good, bad)
		}
	}
	write(t, s, last) // it can be written again
	if got := list(t, s, Query{}); len(got) != 2 {
		t.Errorf("records %v", got)
	}
}

func TestExecsPushOutNoContainer(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{MaxCount: 10})
	write(t, s, at(0, "web", 1, ""))
	for n := range 3 * pruneEvery {
		write(t, s, at(n+1, "web", 1, fmt.Sprintf("e%d", n)))
	}
	if _, err := s.Prune(epoch); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, Query{AnyExec: true}); len(got) != 11 || got[10] != "web 1 " {
		t.Errorf("records %v", got)
	}
}

func TestBoundOfBytes(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{MaxBytes: 2000})
	for n := range 30 {
		write(t, s, at(n, "c", n, ""))
	}
	if _, err := s.Prune(epoch); err != nil {
		t.Fatal(err)
	}
	got := list(t, s, Query{})
	if len(got) == 0 || len(got) >= 30 || got[0] != "c 29 " {
		t.Errorf("%d records, the first is %q", len(got), got[0])
	}
}

func TestTexts(t *testing.T) {
	kill := OOMKill{Task: "dd", PID: 7, RSS: 31 << 20, Limit: 32 << 20, Whose: OwnLimit, First: true}
	for _, tt := range []struct {
		name string
		r    Record
		text string
		from From
	}{
		{"good", Record{Exit: ExitOf(0)}, "ended by itself", FromNobody},
		{"lost", Record{}, "not observed: nobody was there to see it end", FromUnknown},
		{"fault", Record{Exit: ExitOf(syscall.WaitStatus(uint32(syscall.SIGSEGV) | 0x80))}, "crashed by SIGSEGV, core dumped", FromItself},
		{"shot", Record{Exit: ExitOf(9)}, "killed by SIGKILL, not by us", FromOutside},
		{"oom", Record{Exit: ExitOf(9), OOMKills: []OOMKill{kill}}, "out of memory: dd (pid 7) was killed with 31MiB resident, the container's limit of 32MiB was reached", FromOOM},
		{
			"ignored",
			Record{Exit: ExitOf(9), Signals: &SignalMasks{}, Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM, TimedOut: true, Timeout: 2 * time.Second}},
			"TERM ignored, KILL after 2 s", FromClient,
		},
		{
			"handled, and not enough",
			Record{Exit: ExitOf(9), Signals: &SignalMasks{Caught: 1 << (syscall.SIGTERM - 1)}, Stop: &Stop{Action: "stop", Signal: syscall.SIGTERM, TimedOut: true, Timeout: time.Second}},
			"TERM did not end the process, KILL after 1 s", FromClient,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.Complete()
			if got := tt.r.Text(); got != tt.text || tt.r.SignalFrom() != tt.from {
				t.Errorf("%q by %q, want %q by %q", got, tt.r.SignalFrom(), tt.text, tt.from)
			}
		})
	}
}

// TestKnown: of a full store only what ended before its oldest record may have been removed.
func TestKnown(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{MaxCount: 2, MaxAge: 100 * 365 * 24 * time.Hour})
	write(t, s, at(5, "c1", 1, ""))
	write(t, s, at(1, "c1", 1, "e1")) // counts for execs
	runs, since, err := s.Known()
	if err != nil || len(runs) != 1 || !runs[Run{"c1", 1}] || since.After(epoch) {
		t.Errorf("with room for one more: %v since %v, %v", runs, since, err)
	}
	write(t, s, at(7, "c2", 4, ""))
	runs, since, err = s.Known()
	if want := epoch.Add(5 * time.Second); err != nil || len(runs) != 2 || !since.Equal(want) {
		t.Errorf("full: %v since %v, %v, want two since %v", runs, since, err, want)
	}
}

// TestKnownByBytes: so it is when the bound is that of all their bytes, which those of execs share.
func TestKnownByBytes(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{MaxBytes: largest + 4000, MaxAge: 100 * 365 * 24 * time.Hour})
	write(t, s, at(3, "c1", 1, "e1"))
	write(t, s, at(5, "c1", 1, ""))
	if _, since, err := s.Known(); err != nil || since.After(epoch) {
		t.Errorf("with room for more: since %v, %v", since, err)
	}
	for n := range 30 {
		write(t, s, at(10+n, "c2", n, ""))
	}
	_, since, err := s.Known()
	if want := epoch.Add(3 * time.Second); err != nil || !since.Equal(want) {
		t.Errorf("full: since %v, %v, want %v", since, err, want)
	}
}
