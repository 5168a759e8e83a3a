package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/blackbox"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/sample"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

const (
	// deathRetry is when records that could not be written, say to a full disk, are tried again.
	deathRetry = time.Second
	// deathsWaiting is how many may wait for that; the oldest are given up.
	deathsWaiting = 200
)

// deathDelay lets the clients of a container that has ended go on before its record is written.
const deathDelay = 50 * time.Millisecond

// deathLog writes death records in the background, so that nobody waits for the disk, and shows those that are still to
// be written.
type deathLog struct {
	store *death.Store // nil: none are kept
	wake  chan struct{}
	hurry chan struct{} // of capacity 1: do not wait any longer

	mu      sync.Mutex
	pending []*pendingDeath // the oldest first
	rushed  bool            // somebody waits for what is pending, complete or not
}

// pendingDeath is a record that is not written yet. It is there before anybody is told of the death, and complete a
// little later.
type pendingDeath struct {
	log  *deathLog
	then []func()       // done once it is written, or could not be
	rec  *death.Record  // not changed any more once done is closed
	box  *blackbox.Kept // what its black box has kept, if that is not written yet; set before anybody looks
	done chan struct{}

	failed bool // to be written; told once
}

func newDeathLog(s *death.Store) *deathLog {
	return &deathLog{store: s, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
}

// begin takes a record that is still to be completed.
func (d *deathLog) begin(r *death.Record) *pendingDeath {
	p := &pendingDeath{log: d, rec: r, done: make(chan struct{})}
	if d.store == nil {
		return p
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = append(d.pending, p)
	return p
}

// complete has change fill in the rest.
func (p *pendingDeath) complete(change func(*death.Record)) {
	if p.log.store == nil {
		return
	}
	if change != nil {
		change(p.rec)
	}
	p.rec.Complete()
	close(p.done)
	select {
	case p.log.wake <- struct{}{}:
	default:
	}
}

// add takes a complete record, which must not be changed afterwards.
func (d *deathLog) add(r *death.Record) { d.begin(r).complete(nil) }

// run writes until ctx ends, and then what is left.
func (d *deathLog) run(ctx context.Context, failed func(*death.Record, error)) {
	var again <-chan time.Time
	for ctx.Err() == nil {
		delay := deathDelay
		select {
		case <-d.wake:
		case <-again:
			delay = 0
		case <-d.hurry:
			delay = 0
		case <-ctx.Done():
		}
		if d.hurried() {
			delay = 0
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-d.hurry:
		case <-ctx.Done():
		}
		timer.Stop()
		again = nil
		if !d.write(failed) {
			again = time.After(deathRetry)
		}
	}
}

// write writes all that is pending and complete, and tells whether it could. What a full disk did not take stays, until
// there is too much of it; whoever waits for it goes on.
func (d *deathLog) write(failed func(*death.Record, error)) (all bool) {
	tried := map[*pendingDeath]bool{}
	for {
		p := d.next(tried)
		if p == nil {
			break
		}
		tried[p] = true
		err := d.writeOne(p)
		if err != nil && !p.failed {
			p.failed = true
			failed(p.rec, err)
		}
		d.mu.Lock()
		if err == nil {
			d.drop(p)
		}
		then := p.then
		p.then = nil
		d.mu.Unlock()
		for _, f := range then {
			f()
		}
	}
	return d.bound()
}

// bound gives up the oldest of too many that could not be written, and tells whether there are none of them.
func (d *deathLog) bound() (none bool) {
	d.mu.Lock()
	waiting, then := 0, []func(){}
	for _, p := range slices.Backward(d.pending) {
		if !p.failed {
			continue
		}
		if waiting++; waiting > deathsWaiting {
			then = append(then, p.then...)
			d.drop(p)
		}
	}
	d.rushed = d.rushed && slices.ContainsFunc(d.pending, func(p *pendingDeath) bool { return len(p.then) > 0 })
	d.mu.Unlock()
	for _, f := range then {
		f()
	}
	return waiting == 0
}

// writeOne writes a record and what its black box has kept, each also if there is no room for the other.
func (d *deathLog) writeOne(p *pendingDeath) error {
	var err error
	if p.box != nil {
		err = d.store.WriteCalls(p.rec, p.box)
	}
	return errors.Join(err, d.store.Write(p.rec))
}

// drop takes one from the list, of which readers have copies. The caller holds mu.
func (d *deathLog) drop(p *pendingDeath) {
	d.pending = slices.DeleteFunc(slices.Clone(d.pending), func(q *pendingDeath) bool { return q == p })
}

// isRun tells whether it is of a run of the container, not of an exec in it.
func (p *pendingDeath) isRun(container string) bool {
	return p.rec.Container == container && p.rec.Exec == ""
}

// after calls f once all records of runs of a container that have begun are written, or could not be: at once, if there
// are none. Nobody makes up for the record of an exec.
func (d *deathLog) after(container string, f func()) {
	var left atomic.Int32
	d.mu.Lock()
	for _, p := range d.pending {
		if !p.isRun(container) {
			continue
		}
		left.Add(1)
		p.then = append(p.then, func() {
			if left.Add(-1) == 0 {
				f()
			}
		})
	}
	none := left.Load() == 0
	d.mu.Unlock()
	if none {
		f()
	}
}

// waiting tells whether there are such records.
func (d *deathLog) waiting(container string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.pending, func(p *pendingDeath) bool { return p.isRun(container) })
}

// rush has all that is waited for be written as soon as it is complete.
func (d *deathLog) rush() {
	d.mu.Lock()
	d.rushed = true
	d.mu.Unlock()
	select {
	case d.hurry <- struct{}{}:
	default:
	}
}

func (d *deathLog) hurried() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rushed
}

// next is a record that can be written, but those that were tried; nil: none.
func (d *deathLog) next(tried map[*pendingDeath]bool) *pendingDeath {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pending {
		if tried[p] {
			continue
		}
		select {
		case <-p.done:
			return p
		default:
		}
	}
	return nil
}

// calls is what the black box has kept of a run, whose record list has given. Without one the error is death.ErrNotFound.
func (d *deathLog) calls(r *death.Record) (*blackbox.Kept, error) {
	d.mu.Lock()
	pending := slices.Clone(d.pending)
	d.mu.Unlock()
	for _, p := range pending {
		if p.rec == r && p.box != nil {
			return p.box, nil
		}
	}
	return d.store.Calls(r)
}

// completeWait is how long a reader waits for a record to be completed.
const completeWait = time.Second

// list goes through the records, newest first, also those that are still to be written.
func (d *deathLog) list(q death.Query) iter.Seq2[*death.Record, error] {
	return func(yield func(*death.Record, error) bool) {
		if d.store == nil {
			return
		}
		d.mu.Lock()
		pending := slices.Clone(d.pending)
		d.mu.Unlock()
		type name struct {
			container, exec string
			run             int
		}
		seen := map[name]bool{}
		patience := time.NewTimer(completeWait)
		defer patience.Stop()
		for _, p := range slices.Backward(pending) {
			if !q.Match(p.rec) { // by what does not change any more
				continue
			}
			select {
			case <-p.done:
			case <-patience.C:
				patience.Reset(0) // others that are not complete are not waited for
				continue
			}
			seen[name{p.rec.Container, p.rec.Exec, p.rec.Run}] = true
			if !yield(p.rec, nil) {
				return
			}
		}
		for r, err := range d.store.List(q) {
			if err == nil && seen[name{r.Container, r.Exec, r.Run}] {
				continue // it was written meanwhile
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// DeathsOptions select death records.
type DeathsOptions struct {
	Container string // name or id, or the beginning of one, also of a container that is gone; empty: all
	Run       int    // 0: any
	Execs     bool   // those of execs as well
	Limit     int    // at most so many, newest first; 0: no limit
	Since     time.Time
}

// Deaths returns death records, newest first. Without any of a container that does not exist (any more) the error is
// errdefs.ErrNotFound. A record that cannot be read is logged and left out.
func (e *Engine) Deaths(o DeathsOptions) ([]*death.Record, error) {
	q := death.Query{Run: o.Run, AnyExec: o.Execs, Since: o.Since}
	known := o.Container == ""
	if !known {
		c, err := e.registry.find(o.Container)
		switch {
		case err == nil:
			q.Container, known = c.id, true
		case strings.Contains(err.Error(), "multiple IDs"):
			return nil, err
		}
	}
	list := []*death.Record{}
	for r, err := range e.deaths.list(q) {
		if err != nil {
			e.log.Warn("death record cannot be read", "err", err)
			continue
		}
		if !known && !strings.HasPrefix(r.Container, o.Container) && r.Name != strings.TrimPrefix(o.Container, "/") {
			continue
		}
		if list = append(list, r); len(list) == o.Limit {
			break
		}
	}
	if !known && len(list) == 0 {
		return nil, errNoSuchContainer(o.Container)
	}
	return list, nil
}

// remains is what is left of a run when its process has ended, and goes with the container.
type remains struct {
	lines    []death.Line
	samples  []sample.Sample
	activity []activity.Entry
	learned  *death.Learned
	core     *death.Core
}

// gatherRemains reads it. It takes well below a millisecond, unless the container is to learn, and may go on while other things of the run are cleared away.
func (e *Engine) gatherRemains(v *view, exit Exit, core coreState) (r remains) {
	r.activity = e.endActivity(v)
	if e.deaths.store == nil {
		return r
	}
	r.learned = e.learned(v)
	r.core = e.coreOf(v, core)
	if v.HostConfig.LogConfig.Type != "none" {
		r.lines = e.lastLines(v)
	}
	ring, err := sample.Open(e.dir(v.ID, "samples"))
	if err == nil {
		defer ring.Close()
		r.samples, err = ring.Range(exit.Since(v.Life.Began()), time.Time{})
		r.samples = r.samples[max(0, len(r.samples)-death.MaxSamples):]
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("last samples are not in the death record", "container", v.ID, "err", err)
	}
	return r
}

// lastLines are the last lines of a run's output.
func (e *Engine) lastLines(v *view) []death.Line {
	o := crilog.ReadOptions{Stdout: true, Stderr: true, Run: v.Life.Run, Tail: death.MaxLines}
	lines, err := linesOf(e.life, e.logDir(v.ID), o)
	if errors.Is(err, crilog.ErrNoRun) { // of an older shim, or it came to none
		o.Run, o.Since = 0, v.Life.Began()
		lines, err = linesOf(e.life, e.logDir(v.ID), o)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("last lines are not in the death record", "container", v.ID, "err", err)
	}
	return lines
}

// linesOf reads a log. The pieces of a long line are put together again.
func linesOf(ctx context.Context, dir string, o crilog.ReadOptions) (lines []death.Line, err error) {
	err = crilog.Read(ctx, dir, o, nil, func(entry crilog.Entry) error {
		text := strings.TrimSuffix(string(entry.Line), "\n")
		if entry.Line == nil {
			return nil
		}
		if last := len(lines) - 1; entry.Continued && last >= 0 {
			if l := &lines[last]; len(l.Text) < death.MaxLineBytes {
				l.Text = append(l.Text, text...)
			}
			return nil
		}
		stream := "stdout"
		if StreamKind(entry.Stream) == Stderr {
			stream = "stderr"
		}
		lines = append(lines, death.Line{Time: entry.Time, Stream: stream, Text: []byte(text)})
		return nil
	})
	return lines, err
}

// deathOf is the record of the end of the run that v shows, as it was before the end, without what remains.
func (e *Engine) deathOf(v *view, exit Exit) *death.Record {
	rec := deathIn(v)
	run := v.asRun()
	rec.Command, rec.TTY, rec.Removed = append([]string{run.Path}, run.Args...), run.Config.Tty, v.HostConfig.AutoRemove
	last, _ := v.Life.Last()
	rec.Started, rec.Finished, rec.Ran, rec.Exit = last.StartedAt, exit.At.UTC(), exit.Ran, exitForm(exit)
	rec.StartedBy, rec.Stop = v.startedBy(), stopForm(v.decisive(exit))
	rec.OOMCount, rec.Signals = exit.OOMKills, (*death.SignalMasks)(exit.Signals)
	rec.Restarts, rec.Limits = v.Life.RestartCount, e.limitsOf(v.HostConfig)
	rec.Shim = e.shimEnd(exit, last.StartedAt)
	if !last.StartedAt.IsZero() {
		rec.Unwatched = e.gaps.Between(last.StartedAt, rec.Finished)
	}
	if h := v.health; h != nil {
		rec.Health = &death.Health{Status: string(h.Status), FailingStreak: h.FailingStreak, LastOutput: lastOutput(h)}
	}
	if t, ok := v.task.(interface{ Timings() []plan.Timing }); ok {
		for _, step := range t.Timings() {
			rec.Plan = append(rec.Plan, death.Step{Name: step.Name, Took: time.Duration(step.Microseconds) * time.Microsecond})
		}
	}
	return rec
}

// deathIn begins a record about the container that v shows.
func deathIn(v *view) *death.Record {
	return &death.Record{
		Container: v.ID, Name: v.Name, Image: v.Config.Image, ImageID: v.ImageID, Run: v.Life.Run, Created: v.Created,
	}
}

func exitForm(x Exit) death.Exit {
	return death.Exit{Observed: x.Observed, WaitStatus: x.WaitStatus, Code: x.Code, Signal: x.Signal, Core: x.Core}
}

// decisiveFor is how long after a signal an end counts as its effect, if it does not show it.
const decisiveFor = 10 * time.Second

// decisive is what a client has asked for that led to an end; nil: nothing. A signal that the container has handled and
// survived is not.
func (v *view) decisive(exit Exit) *state.Asked {
	a := v.Life.Asked
	if a == nil || a.Action != askKill || a.Signal == exit.Signal || exit.At.Sub(a.At) < decisiveFor {
		return a
	}
	return nil
}

func stopForm(a *state.Asked) *death.Stop {
	if a == nil {
		return nil
	}
	return &death.Stop{Action: a.Action, Signal: a.Signal, At: a.At, Timeout: a.Timeout, TimedOut: !a.KilledAt.IsZero(), By: a.By}
}

func (e *Engine) limitsOf(h *container.HostConfig) death.Limits {
	const billion = 1e9
	l := death.Limits{Memory: uint64(max(h.Memory, 0)), MemorySwap: uint64(max(h.MemorySwap, 0)), CPUs: float64(h.NanoCPUs) / billion}
	if l.CPUs == 0 && h.CPUQuota > 0 && h.CPUPeriod > 0 {
		l.CPUs = float64(h.CPUQuota) / float64(h.CPUPeriod)
	}
	l.Pids = e.config.Pids.Of(cmp.Or(h.CgroupParent, e.config.CgroupParent), e.config.CgroupParent)
	if h.PidsLimit != nil && *h.PidsLimit > 0 {
		l.Pids = uint64(*h.PidsLimit)
	}
	return l
}

// execDeath is the record of the end of an exec.
func (e *Engine) execDeath(ctx context.Context, x *execution, proc Process, started time.Time) *death.Record {
	exit, v := proc.Exit(), x.c.view()
	rec := deathIn(v)
	rec.Exec, rec.Command, rec.TTY = x.id, x.req.Cmd, x.req.Tty
	rec.Started, rec.Finished, rec.Ran, rec.Exit = started, exit.At.UTC(), exit.Ran, exitForm(exit)
	rec.StartedBy, rec.Signals = event.OriginOf(ctx), (*death.SignalMasks)(exit.Signals)
	rec.Unwatched = e.gaps.Between(started, rec.Finished)
	kills := x.c.kills.all()
	e.markFirst(kills, proc.Pid(), exit)
	for _, k := range kills {
		if k.First {
			rec.OOMKills = append(rec.OOMKills, k)
		}
	}
	rec.Sender, rec.Shim = e.senderOf(v.ID, proc.Pid(), started, exit), e.shimEnd(exit, v.Life.StartedAt)
	return rec
}

// execEnded records the end of an exec. For one that was killed it waits until the kernel must have told whether it did
// that.
func (e *Engine) execEnded(ctx context.Context, x *execution, proc Process, started time.Time) {
	if e.deaths.store == nil {
		return
	}
	if proc.Exit().Signal == syscall.SIGKILL && e.kernel.reader != nil {
		timer := time.NewTimer(oomTellWait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-e.life.Done():
		}
	}
	e.deaths.add(e.execDeath(ctx, x, proc, started))
}

// notStarted is the record of a start that failed.
func (e *Engine) notStarted(v *view, err error) *death.Record {
	rec := deathIn(v)
	run := v.asRun()
	rec.Command, rec.TTY, rec.Removed = append([]string{run.Path}, run.Args...), run.Config.Tty, v.HostConfig.AutoRemove
	rec.Finished, rec.Exit = time.Now().UTC(), death.Exit{Observed: true, Code: exitCodeOf(err)}
	rec.StartedBy, rec.Restarts, rec.Limits = v.startedBy(), v.Life.RestartCount, e.limitsOf(v.HostConfig)
	rec.StartError = &death.StartError{Message: err.Error()}
	if se, ok := errors.AsType[*runtime.StartError](err); ok {
		rec.StartError = &death.StartError{Step: se.Step, Path: se.Path, Errno: se.Errno, Message: se.Message}
	}
	return rec
}

// markFirst marks the kill that has hit the process that ended so. The kernel's log counts processes as its first pid
// namespace does: from another one, and for a process that this daemon has never seen (pid 0), the time must do.
func (e *Engine) markFirst(kills []death.OOMKill, pid int, exit Exit) {
	nearest, distance := -1, oomNear
	for i := range kills {
		kills[i].First = e.kernel.samePIDs && pid > 0 && kills[i].PID == pid
		if d := exit.At.Sub(kills[i].Time).Abs(); d < distance {
			nearest, distance = i, d
		}
	}
	if exit.Signal == syscall.SIGKILL && nearest >= 0 && (pid == 0 || !e.kernel.samePIDs) {
		kills[nearest].First = true
	}
}

// oomNear is how far the times of a kill and of the victim's end may lie apart: they are of two clocks.
const oomNear = time.Second

// deathWithout records the end of a run that this daemon has not seen. Absent tells that no daemon ran then.
func (e *Engine) deathWithout(c *ctr, v *view, exit Exit, absent bool) {
	if e.deaths.store == nil {
		return
	}
	rec := e.deathOf(v, exit)
	left := e.gatherRemains(v, exit, coreState(rec.Exit.Core))
	rec.LastLines, rec.LastSamples, rec.Core = left.lines, left.samples, left.core
	if box, err := e.deaths.store.Calls(rec); err == nil { // the last daemon came to that
		rec.Box = box.Summary()
	}
	rec.OOMKills, rec.DaemonAbsent = c.kills.all(), absent
	e.markFirst(rec.OOMKills, 0, exit)
	e.deaths.add(rec)
}

// recordMissing makes up for a record that the last daemon did not get to write.
func (e *Engine) recordMissing(c *ctr) {
	v := c.view()
	run, ok := v.Life.Last()
	known := e.recorded
	if known.runs == nil || !ok || run.FinishedAt.IsZero() || run.FinishedAt.Before(known.since) ||
		known.runs[death.Run{Container: c.id, Number: run.Number}] {
		return
	}
	if run.StartedAt.IsZero() {
		e.deaths.add(e.notStarted(v, errors.New(run.Error)))
		return
	}
	exit, err := e.deps.Runtime.ReadExit(e.stateDir(c.id))
	if err != nil {
		exit = Exit{Code: run.ExitCode, Signal: syscall.Signal(run.Signal), At: run.FinishedAt, Observed: !run.Unobserved}
	}
	e.deathWithout(c, v, exit, false)
}

// recordedDeaths are the runs that have a record, of those that ended at since or later: an older record may have been
// removed. Nil runs: they are not known.
type recordedDeaths struct {
	runs  map[death.Run]bool
	since time.Time
}

func (e *Engine) knownDeaths() recordedDeaths {
	if e.deaths.store == nil {
		return recordedDeaths{}
	}
	runs, since, err := e.deaths.store.Known()
	if err != nil {
		e.log.Warn("death records were not compared with the containers", "err", err)
		return recordedDeaths{}
	}
	return recordedDeaths{runs, since}
}
