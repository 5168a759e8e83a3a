package blackbox

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/syscalls"
)

func TestWords(t *testing.T) {
	openat, _ := syscalls.Number("", "openat")
	exitGroup, _ := syscalls.Number("", "exit_group")
	code := 137
	at := time.Unix(5, 0)
	var words Words
	for _, tt := range []struct {
		name string
		e    calltrace.Event
		want api.TraceEvent
	}{
		{
			"call",
			calltrace.Event{
				Kind: calltrace.Call, PIDInside: 7, TIDInside: 8, PID: 70, Comm: "cat", Took: 5, Ret: -int64(syscall.ENOENT),
				Call: syscalls.Call{Number: openat, Args: [6]uint64{^uint64(99), 16, 0}}, Memory: syscalls.Snippets{{Addr: 16, Data: []byte("/x\x00")}},
			},
			api.TraceEvent{
				Kind: api.TraceCall, PID: 7, TID: 8, HostPID: 70, Name: "cat", TookNanoseconds: 5, Call: "openat", Args: `(AT_FDCWD, "/x", O_RDONLY)`,
				Result: "-1 ENOENT (No such file or directory)", Return: -1, Errno: "ENOENT",
			},
		},
		{
			"call in which the thread has ended",
			calltrace.Event{Kind: calltrace.Call, Unfinished: true, Call: syscalls.Call{Number: exitGroup, Args: [6]uint64{3}}, Ret: -int64(syscall.ENOENT)},
			api.TraceEvent{Kind: api.TraceCall, Call: "exit_group", Args: "(3)", Result: "?", Unfinished: true},
		},
		{
			"killed",
			calltrace.Event{Kind: calltrace.Exit, Status: syscall.WaitStatus(9)},
			api.TraceEvent{Kind: api.TraceExit, Signal: "SIGKILL", ExitCode: &code},
		},
		{
			"signal of the host",
			calltrace.Event{Kind: calltrace.Signal, Signal: syscall.SIGTERM, Sender: 5, SenderIn: 5, SenderName: "kill", Ignored: true},
			api.TraceEvent{Kind: api.TraceSignal, Signal: "SIGTERM", Ignored: true, Sender: &api.TraceSender{HostPID: 5, Name: "kill"}},
		},
		{
			"signal from inside",
			calltrace.Event{Kind: calltrace.Signal, Signal: syscall.SIGTERM, Sender: 5, SenderIn: 2, FromHere: true},
			api.TraceEvent{Kind: api.TraceSignal, Signal: "SIGTERM", Sender: &api.TraceSender{HostPID: 5, PID: 2}},
		},
		{
			"connection",
			calltrace.Event{Kind: calltrace.TCP, Old: 7, New: 2},
			api.TraceEvent{Kind: api.TraceTCP, Local: "invalid AddrPort", Remote: "invalid AddrPort", OldState: "CLOSE", NewState: "SYN-SENT"},
		},
	} {
		tt.e.Time, tt.want.Time = at, at.UTC()
		if diff := cmp.Diff(&tt.want, words.Event(&tt.e)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// sample is a box with so many calls of pid 1, each with an error, and one of another process.
func sample(n int) *Kept {
	k := &Kept{Head: Head{Version: Version, Since: time.Unix(7, 0).UTC(), Late: true, Seen: 9000, Lost: 2}}
	for i := range n {
		k.Events = append(k.Events, &api.TraceEvent{
			Kind: api.TraceCall, Time: time.Unix(8, int64(i)).UTC(), PID: 1, Name: "sh", Call: "openat", Args: fmt.Sprintf("(AT_FDCWD, \"<%d>\")", i),
			Result: "-1 ENOENT (No such file or directory)", Return: -1, Errno: "ENOENT",
		})
	}
	k.Events = append(k.Events,
		&api.TraceEvent{Kind: api.TraceCall, PID: 7, Name: "cat", Call: "wait4", Args: "(-1)", Result: "-1 ECHILD (No child processes)", Return: -1, Errno: "ECHILD"},
		&api.TraceEvent{Kind: api.TraceExec, PID: 7, Name: "cat", File: "/bin/cat"},
	)
	return k
}

func TestFile(t *testing.T) {
	want := sample(4096)
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 256<<10 {
		t.Errorf("a file has %d bytes", len(data))
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, bad := range map[string][]byte{"cut": data[:len(data)/2], "empty": nil, "other": bytes.Repeat([]byte("x"), 100)} {
		if k, err := Decode(bad); err == nil {
			t.Errorf("%s: %+v", name, k.Head)
		}
	}
}

func TestNewerFile(t *testing.T) {
	k := sample(0)
	k.Version = Version + 1
	data, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); err == nil {
		t.Error("a file of another version was read")
	}
}

func TestSummary(t *testing.T) {
	s := sample(20).Summary()
	if s.Kept != 22 || s.Seen != 9000 || s.Lost != 2 || !s.Late || len(s.Failed) != MaxQuoted || len(s.First) != MaxQuoted {
		t.Fatalf("got %+v", s)
	}
	last := MaxQuoted - 1
	if got := s.Failed[last].Text(); got != `openat(AT_FDCWD, "<19>") = ENOENT` {
		t.Errorf("the last that failed is %s", got)
	}
	if got := s.First[0].Args; got != `(AT_FDCWD, "<12>")` {
		t.Errorf("the first of pid 1 is %s", got)
	}
}
