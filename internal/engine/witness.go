package engine

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/record/death"
)

// Witness tells who has sent a signal to a process of a container, since a time, and what the processes do. Only Began,
// Follow and Drain wait.
type Witness interface {
	Signal(pid int, sig syscall.Signal, since time.Time) (witness.Signal, bool)
	Counts() (witness.Counts, error)
	// Began is when the watch began, as soon as it has, or why there is none.
	Began(ctx context.Context) (time.Time, error)
	// Follow calls fn with each deed, and idle when there are none, until the context ends.
	Follow(ctx context.Context, fn func(*witness.Deed), idle func()) error
	// Drain waits until all deeds so far were told to who follows.
	Drain(ctx context.Context)
	// Refresh makes sure that new groups are seen.
	Refresh() error
}

// byTracepoint is the source of what a Witness knows.
const byTracepoint = "tracepoint signal_generate"

// asked are the signals by which processes are asked to end.
var askedToEnd = []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP}

// senderOf is who has sent the signal that ended a process of a container, or, of one that ended by itself, a signal that
// asked it to, just before. Nil: nobody but the kernel or this daemon, or nobody knows.
func (e *Engine) senderOf(id string, pid int, began time.Time, exit Exit) *death.Sender {
	if e.deps.Witness == nil || pid <= 0 || !exit.Observed {
		return nil
	}
	signals, since := []syscall.Signal{exit.Signal}, exit.Since(began).Add(-time.Second) // of two clocks
	if exit.Signal == 0 {
		signals = askedToEnd
		if recent := exit.At.Add(-decisiveFor); recent.After(since) {
			since = recent
		}
	}
	last := e.lastSignal(pid, signals, since)
	if last.Time.IsZero() || last.OOM || last.Kernel || e.ours(id, last.From) {
		return nil
	}
	return e.senderForm(last, pid)
}

// lastSignal is the newest of those that a process got since a time; the zero value if it got none.
func (e *Engine) lastSignal(pid int, signals []syscall.Signal, since time.Time) (last witness.Signal) {
	for _, sig := range signals {
		if s, ok := e.deps.Witness.Signal(pid, sig, since); ok && !s.Ignored && s.Time.After(last.Time) {
			last = s
		}
	}
	return last
}

// senderForm tells of the sender of a signal to a process.
func (e *Engine) senderForm(last witness.Signal, pid int) *death.Sender {
	f := last.From
	s := &death.Sender{
		PID: f.PID, UID: f.UID, Command: f.Command(), Source: byTracepoint, Signal: last.Signal, At: last.Time.UTC(),
		Inside: f.PIDInside, Itself: f.PID == pid, Parent: f.Parent, ParentName: f.ParentName,
	}
	if f.Group != 0 {
		s.Container, s.ContainerName = e.containerOf(f.Group)
	}
	return s
}

// endShims are the signals that end a shim.
var endShims = []syscall.Signal{
	syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS,
	syscall.SIGILL, syscall.SIGFPE, syscall.SIGSYS, syscall.SIGTRAP, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2,
}

// shimEnd is how the shim of a run ended that began then, if it ended before its container; else nil.
func (e *Engine) shimEnd(exit Exit, began time.Time) *death.ShimEnd {
	if exit.Shim == 0 {
		return nil
	}
	end := &death.ShimEnd{PID: exit.Shim}
	if e.deps.Witness == nil {
		return end
	}
	last := e.lastSignal(exit.Shim, endShims, began.Add(-time.Second)) // of two clocks
	if end.Signal, end.OOM = last.Signal, last.OOM; end.Signal != 0 && !last.OOM && !last.Kernel {
		end.Sender = e.senderForm(last, exit.Shim)
	}
	return end
}

// ours tells that a process is this daemon or the shim of the container: they have sent what somebody asked for.
func (e *Engine) ours(id string, p witness.Process) bool {
	if p.PID == os.Getpid() {
		return true
	}
	shim, err := e.groupOf(id).ID(cgroup.Shim)
	return err == nil && shim != 0 && p.Part == shim
}

// groupOf is the control group of a container.
func (e *Engine) groupOf(id string) *cgroup.Group {
	return cgroup.New(e.config.CgroupParent + "/" + id)
}

// groupBook remembers whose control groups were which, also of containers that have been removed since: the group itself
// may be gone before anybody asks. The zero value is ready.
type groupBook struct {
	mu     sync.Mutex
	owners map[uint64]groupOwner // by cgroup id, which is not used again
	order  []uint64
}

type groupOwner struct {
	id, name string
	app      uint64 // cgroup id of the group of its own processes
	run      int    // the last that was started
}

// maxGroups are remembered.
const maxGroups = 1024

// noteGroup remembers the control group of a container, with the run whose processes are about to begin, or have begun.
func (e *Engine) noteGroup(v *view, run int) {
	if e.deps.Witness == nil {
		return
	}
	group, err := e.groupOf(v.ID).ID("")
	if err != nil || group == 0 {
		return // its processes are then called those of a container that is not known
	}
	e.watchBegins()
	app, err := e.groupOf(v.ID).ID(cgroup.App)
	if err == nil {
		err = e.deps.Witness.Refresh()
	}
	if err != nil {
		e.log.Warn("what its processes do may not be recorded", "container", v.ID, "err", err)
	}
	b := &e.groups
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owners == nil {
		b.owners = map[uint64]groupOwner{}
	}
	if len(b.order) == maxGroups {
		delete(b.owners, b.order[0])
		b.order = append(b.order[:0], b.order[1:]...)
	}
	if _, known := b.owners[group]; !known {
		b.order = append(b.order, group)
	}
	b.owners[group] = groupOwner{v.ID, v.Name, app, run}
}

// owner finds whose control group it is.
func (b *groupBook) owner(group uint64) (groupOwner, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.owners[group]
	return o, ok
}

// end notes that none of a container's own processes run any more. Whose the groups were stays known.
func (b *groupBook) end(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for group, o := range b.owners {
		if o.id == id {
			o.app = 0
			b.owners[group] = o
		}
	}
}

// containerOf finds the container with a control group.
func (e *Engine) containerOf(group uint64) (id, name string) {
	if o, ok := e.groups.owner(group); ok {
		return o.id, o.name
	}
	return death.UnknownContainer, ""
}
