package engine

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/record/activity"
)

// activityBook writes down what the processes of containers do, as a Witness tells it. The zero value is ready.
type activityBook struct {
	mu   sync.Mutex
	logs map[string]*activityLog // by container
}

type activityLog struct {
	log     *activity.Log // nil: it could not be opened
	pending []activity.Entry
}

// maxPending entries of a container are written at once.
const maxPending = 500

func (e *Engine) activityPath(id string) string { return e.dir(id, "activity") }

// followActivity writes down what happens until the daemon ends.
func (e *Engine) followActivity() {
	if e.deps.Witness == nil {
		return
	}
	err := e.deps.Witness.Follow(e.life, e.noteDeed, e.writeActivity)
	if err != nil && e.life.Err() == nil {
		e.log.Warn("what processes of containers do is not recorded", "err", err)
	}
	e.writeActivity()
	e.activity.closeAll()
}

// noteDeed keeps a deed of a container's own processes.
func (e *Engine) noteDeed(d *witness.Deed) {
	b := &e.activity
	b.mu.Lock()
	defer b.mu.Unlock()
	owner, known := e.groups.owner(d.Group)
	if !known || d.Part != owner.app {
		return
	}
	entry := entryOf(d, owner)
	l := b.logs[owner.id]
	if l == nil {
		if b.logs == nil {
			b.logs = map[string]*activityLog{}
		}
		l = &activityLog{}
		b.logs[owner.id] = l
	}
	if l.pending = append(l.pending, entry); len(l.pending) >= maxPending {
		e.flushActivity(owner.id, l)
	}
}

// entryOf is a deed as it is recorded.
func entryOf(d *witness.Deed, owner groupOwner) activity.Entry {
	n := activity.Entry{Time: d.Time.UTC(), Run: owner.run, PID: d.PIDInside, Parent: d.Parent, Name: valid(d.Comm), Dropped: d.Dropped}
	switch d.Kind {
	case witness.Exec:
		n.Kind, n.File, n.Cut = activity.Exec, valid(d.File), d.Cut
		for _, a := range d.Args {
			n.Command = append(n.Command, valid(a))
		}
	case witness.Exit:
		n.Kind, n.Lived = activity.Exit, d.Lived
		if d.Status.Signaled() {
			n.Signal = d.Status.Signal()
		} else {
			n.Code = d.Status.ExitStatus()
		}
	case witness.Sent:
		n.Kind, n.Signal, n.Ignored, n.Kernel, n.Sender = activity.Signal, d.Signal, d.Ignored, d.Kernel, valid(d.From.Name)
		if d.From.Group == d.Group {
			n.From = d.From.PIDInside
		} else {
			n.Outside = d.From.PID
		}
	case witness.Connect, witness.Refused, witness.Accept, witness.Listen:
		n.Kind = map[witness.Kind]activity.Kind{
			witness.Connect: activity.Connect, witness.Refused: activity.Refused, witness.Accept: activity.Accept, witness.Listen: activity.Listen,
		}[d.Kind]
		n.Local, n.Remote, n.Error, n.More = d.Local.String(), d.Remote.String(), d.Error, d.More
	}
	return n
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// writeActivity writes what is pending.
func (e *Engine) writeActivity() {
	b := &e.activity
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.logs {
		e.flushActivity(id, l)
	}
}

// flushActivity writes what is pending of a container. The caller has the lock.
func (e *Engine) flushActivity(id string, l *activityLog) {
	if len(l.pending) == 0 {
		return
	}
	list := l.pending
	l.pending = nil
	var err error
	if l.log == nil {
		l.log, err = activity.Open(e.activityPath(id))
	}
	if err == nil {
		err = l.log.Append(list...)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is being removed
		e.log.Warn("what its processes did is not recorded", "container", id, "entries", len(list), "err", err)
	}
}

// closeActivity lets go of the log of a container that has ended, or was not started after all. What its processes do from now on, until it is started
// again, is their being killed by the kernel.
func (e *Engine) closeActivity(id string) {
	b := &e.activity
	b.mu.Lock()
	defer b.mu.Unlock()
	e.groups.end(id)
	if l := b.logs[id]; l != nil {
		if l.log != nil {
			_ = l.log.Close()
		}
		delete(b.logs, id)
	}
}

func (b *activityBook) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.logs {
		if l.log != nil {
			_ = l.log.Close()
		}
		delete(b.logs, id)
	}
}

// drainWait bounds how long somebody waits for what the kernel has told and nobody has read yet.
const drainWait = time.Second

// drainActivity has all that has happened so far written down.
func (e *Engine) drainActivity(ctx context.Context) {
	if e.deps.Witness == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	e.deps.Witness.Drain(ctx)
	e.writeActivity()
}

// endActivity gives what may tell why a run has ended, and lets go of the log.
func (e *Engine) endActivity(v *view) []activity.Entry {
	if e.deps.Witness == nil {
		return nil
	}
	e.drainActivity(e.life)
	e.closeActivity(v.ID)
	list, err := activity.Read(e.activityPath(v.ID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("what its processes did is not in the death record", "container", v.ID, "err", err)
	}
	return activity.Notable(list, v.Life.Run)
}

// ContainerActivity returns what the processes of a container have done, the oldest first, as far as it is kept. Why is
// why nothing is recorded at present; nil: it is.
func (e *Engine) ContainerActivity(ctx context.Context, ref string) (list []activity.Entry, why, err error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, nil, err
	}
	why = e.Facts().NoSignals
	e.drainActivity(ctx)
	list, err = activity.Read(e.activityPath(v.ID))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return list, why, err
}
