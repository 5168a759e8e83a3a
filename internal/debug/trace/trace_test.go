package trace

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/syscalls"
)

func TestSettle(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		want string // part of the error
	}{
		{"all", Options{}, ""},
		{"some", Options{Calls: []string{"openat", "connect"}, Failed: true}, ""},
		{"by number", Options{Calls: []string{"syscall_0x270f"}}, ""},
		{"unknown view", Options{View: "files"}, "unknown view: files"},
		{"unknown call", Options{Calls: []string{"opennat"}}, "unknown system call: opennat"},
		{"nothing to fail", Options{View: "tcp", Failed: true}, "shows no system calls"},
		{"backwards", Options{Slow: -1}, "negative"},
	} {
		_, err := tt.o.settle()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v is of another class", tt.name, err)
		}
	}
	o := Options{View: "open"}
	if got, err := o.settle(); err != nil || len(got.Calls) < 2 {
		t.Errorf("open: %v, %v", got.Calls, err)
	}
}

// none knows no container.
type none struct{}

func (none) Trace(ref string) (engine.TraceTarget, func(), error) {
	return engine.TraceTarget{}, nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func (none) TraceQueries(ref string) (engine.QueriesTarget, func(), error) {
	return engine.QueriesTarget{}, nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want func(error) bool
	}{
		{Options{}, errdefs.IsNotFound},
		{Options{View: "dns"}, errdefs.IsNotFound},
		{Options{View: "dns", Summary: true}, errdefs.IsInvalidArgument},
		{Options{View: "dns", Calls: []string{"read"}}, errdefs.IsInvalidArgument},
		{Options{View: "dns", Count: -1}, errdefs.IsInvalidArgument},
	} {
		tt.o.Container = "x"
		err := Run(t.Context(), none{}, tt.o, func(*api.TraceEvent) error {
			t.Error("something was told")
			return nil
		})
		if !tt.want(err) {
			t.Errorf("%+v: got %v", tt.o, err)
		}
	}
}

func TestForm(t *testing.T) {
	openat, _ := syscalls.Number("", "openat")
	code := 137
	at := time.Unix(5, 0)
	s := &session{}
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
		if diff := cmp.Diff(&tt.want, s.form(&tt.e)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestSums(t *testing.T) {
	got := sums([]calltrace.Sum{
		{Name: "read", Calls: 2, Took: 10, Longest: 8},
		{Name: "read", Error: syscall.EAGAIN, Calls: 1, Took: 1, Longest: 1},
		{Name: "poll", Calls: 1, Took: 50, Longest: 50},
		{Name: "close", Calls: 1, Took: 11, Longest: 11},
	})
	want := []api.TraceSum{
		{Call: "poll", Calls: 1, Nanoseconds: 50, LongestNanoseconds: 50},
		{Call: "close", Calls: 1, Nanoseconds: 11, LongestNanoseconds: 11},
		{Call: "read", Calls: 3, Errors: map[string]uint64{"EAGAIN": 1}, Nanoseconds: 11, LongestNanoseconds: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := got[2].Failed(); n != 1 {
		t.Errorf("%d have failed", n)
	}
}
