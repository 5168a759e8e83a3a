package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/record/death"
)

// logDenialsKey is the annotation of a container whose refused system calls are to be logged.
const logDenialsKey = "porthole.log-denials"

// denialsRing is for events of which there are few: the bytes that may wait to be read.
const denialsRing = 256 << 10

// denialLog gathers the system calls of a container that were refused. Its methods may be called on nil, which has none.
type denialLog struct {
	tracer *calltrace.Tracer
	cancel context.CancelFunc
	done   chan struct{} // closed once all that there was is in list
	once   sync.Once

	mu   sync.Mutex
	runs bool // the program has been executed: what was before is our own doing
	list []death.Denial
}

// wantsDenials tells whether a container's refused calls are to be logged.
func wantsDenials(v *view) bool { return v.HostConfig.Annotations[logDenialsKey] == "true" }

// denialsWarning tells why what was asked for cannot be; empty: it can, or was not asked for.
func (e *Engine) denialsWarning(annotations map[string]string) string {
	if annotations[logDenialsKey] != "true" {
		return ""
	}
	err := bpf.Available()
	if err == nil && e.deps.Witness != nil {
		_, err = e.deps.Witness.Counts() // it needs the same of the kernel, and has tried
	}
	if err != nil {
		return "Refused system calls are not logged: " + err.Error()
	}
	return ""
}

// logDenials begins to log them, if that is wanted. Runs tells that the program of the container is being executed already.
// Where it cannot be done the container starts all the same: it was warned of at the creation.
func (e *Engine) logDenials(v *view, runs bool) *denialLog {
	if !wantsDenials(v) {
		return nil
	}
	group := e.groupOf(v.ID)
	o := calltrace.Options{Kinds: []calltrace.Kind{calltrace.Call, calltrace.Exec}, Refused: true, Ring: denialsRing}
	var err error
	if o.Group, err = group.ID(""); err == nil {
		o.Part, err = group.ID(cgroup.App)
	}
	var tracer *calltrace.Tracer
	if err == nil {
		tracer, err = calltrace.Open(o)
	}
	if err != nil {
		e.log.Warn("refused system calls are not logged", "container", v.ID, "err", err)
		return nil
	}
	ctx, cancel := context.WithCancel(e.life)
	d := &denialLog{tracer: tracer, cancel: cancel, done: make(chan struct{}), runs: runs}
	e.goWork(func() {
		defer close(d.done)
		if err := tracer.Run(ctx, d.add, nil); err != nil {
			e.log.Warn("refused system calls are not logged any more", "container", v.ID, "err", err)
		}
	})
	return d
}

// add takes an event.
func (d *denialLog) add(ev *calltrace.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ev.Kind == calltrace.Exec {
		d.runs = true
		return nil
	}
	if !d.runs || !syscalls.Failed(ev.Ret) { // not an error: a filter has answered in the kernel's place
		return nil
	}
	text := (&syscalls.Printer{}).Enter(ev.Call, ev.Memory)
	n := death.Denial{Program: ev.Comm, Call: text.Name(), Errno: syscalls.Errno(syscall.Errno(-ev.Ret)), Seccomp: ev.Denied, Count: 1, First: ev.Time.UTC()}
	for i := range d.list {
		if k := &d.list[i]; k.Program == n.Program && k.Call == n.Call && k.Errno == n.Errno && k.Seccomp == n.Seccomp {
			k.Count++
			return nil
		}
	}
	n.Args, _ = text.Exit(ev.Ret, ev.Memory)
	d.list = append(d.list, n)
	if len(d.list) > death.MaxDenials {
		// Those of seccomp say more than files that may not be read.
		slices.SortStableFunc(d.list, func(a, b death.Denial) int { return cmp.Compare(rank(a), rank(b)) })
		d.list = d.list[:death.MaxDenials]
	}
	return nil
}

func rank(d death.Denial) int {
	if d.Seccomp {
		return 0
	}
	return 1
}

// all are those so far.
func (d *denialLog) all() []death.Denial {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// drainFor bounds how long the end of a run waits for what has not been read yet.
const drainFor = time.Second

// take ends the log, and gives all that there was.
func (d *denialLog) take() []death.Denial {
	d.end()
	return d.all()
}

// end ends the log. It may be called several times.
func (d *denialLog) end() {
	if d == nil {
		return
	}
	d.once.Do(func() {
		d.cancel()
		select {
		case <-d.done:
		case <-time.After(drainFor):
		}
		_ = d.tracer.Close() // nothing of it can be of use any more
	})
}

// RightsOf are those that a container was given. profile is its AppArmor profile, empty if it has none.
func RightsOf(h *container.HostConfig, profile string) *death.Rights {
	r := &death.Rights{CapAdd: h.CapAdd, CapDrop: h.CapDrop, Privileged: h.Privileged, AppArmor: profile}
	for _, o := range h.SecurityOpt {
		if strings.HasPrefix(o, "seccomp") {
			r.Seccomp = o
		}
	}
	if strings.Contains(r.Seccomp, "{") { // clients send the text of the file
		r.Seccomp = "seccomp=FILE"
	}
	return r
}
