package trace

import (
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/calltrace"
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
