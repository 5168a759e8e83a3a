package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/record/death"
)

func refusal(comm, call string, errno syscall.Errno, seccomp bool) *calltrace.Event {
	n, _ := syscalls.Number("", call)
	return &calltrace.Event{Kind: calltrace.Call, Comm: comm, Call: syscalls.Call{Number: n}, Ret: -int64(errno), Denied: seccomp}
}

func TestDenials(t *testing.T) {
	d := &denialLog{}
	add := func(e *calltrace.Event) {
		t.Helper()
		if err := d.add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(refusal("stage", "mount", syscall.EPERM, false)) // ours, before the program is executed
	add(&calltrace.Event{Kind: calltrace.Exec})
	for range 3 {
		add(refusal("sh", "unshare", syscall.EPERM, true))
	}
	add(refusal("sh", "unshare", syscall.EPERM, false))
	add(&calltrace.Event{Kind: calltrace.Call, Comm: "sh", Ret: 7}) // answered by a filter of its own
	var got []string
	for _, x := range d.all() {
		got = append(got, fmt.Sprintf("%s %s %s %v %d", x.Program, x.Call, x.Errno, x.Seccomp, x.Count))
	}
	if diff := cmp.Diff([]string{"sh unshare EPERM true 3", "sh unshare EPERM false 1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range 3 * death.MaxDenials {
		add(refusal(fmt.Sprint(i), "openat", syscall.EACCES, false))
	}
	list := d.all()
	if len(list) != death.MaxDenials || !list[0].Seccomp {
		t.Errorf("%d are kept, the first is %+v", len(list), list[0])
	}
}

// blind is a Witness that the kernel does not let see.
type blind struct{}

func (blind) Signal(int, syscall.Signal, time.Time) (witness.Signal, bool) {
	return witness.Signal{}, false
}

func (blind) Follow(context.Context, func(*witness.Deed), func()) error {
	return errors.New("there is no way")
}

func (blind) Began(context.Context) (time.Time, error) {
	return time.Time{}, errors.New("there is no way")
}
func (blind) Drain(context.Context)           {}
func (blind) Refresh() error                  { return nil }
func (blind) Counts() (witness.Counts, error) { return witness.Counts{}, errors.New("there is no way") }

// Whoever asks for what cannot be is told when the container is created.
func TestDenialsWarning(t *testing.T) {
	e := &Engine{deps: Deps{Witness: blind{}}}
	if got := e.denialsWarning(map[string]string{logDenialsKey: "true"}); !strings.HasPrefix(got, "Refused system calls are not logged: ") {
		t.Errorf("got %q", got)
	}
	if got := e.denialsWarning(map[string]string{logDenialsKey: "false"}); got != "" {
		t.Errorf("without being asked: %q", got)
	}
}

func TestNoDenials(t *testing.T) {
	var d *denialLog
	if list := d.take(); list != nil {
		t.Errorf("got %v", list)
	}
}

func TestRights(t *testing.T) {
	got := RightsOf(&container.HostConfig{CapAdd: []string{"X"}, SecurityOpt: []string{"no-new-privileges", `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}}, "mine")
	if diff := cmp.Diff(&death.Rights{CapAdd: []string{"X"}, Seccomp: "seccomp=FILE", AppArmor: "mine"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
