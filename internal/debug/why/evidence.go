package why

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/watch"
)

// evidence is what the rules look at.
type evidence struct {
	ctx context.Context //nolint:containedctx // of one Explain, which it does not outlive
	src Source

	id, name, image, status string
	run                     int

	sub    *engine.Subject // nil: it was removed
	death  *death.Record   // of the run that is explained; nil: it goes on, or there was none
	deaths []*death.Record // all that are recorded, newest first
	lines  []death.Line    // the last that it has written

	samples []*api.Sample // the last, oldest first
	procs   []process     // that live, in the second of two looks
	zombies []process     // that were zombies in both looks
	cpu     map[int]float64

	gaps    []watch.Gap // of the run, in which nobody watched
	unknown []string
}

// removed is the status of a container that is only remembered.
const removed = "removed"

func collect(ctx context.Context, src Source, o Options) (*evidence, error) {
	e := &evidence{ctx: ctx, src: src}
	sub, err := src.Subject(o.Container)
	if err == nil {
		e.sub = &sub
		e.id, e.name, e.image, e.status, e.run = sub.ID, sub.Name, sub.Config.Image, string(sub.Status), sub.Life.Run
	}
	ref := o.Container
	if e.sub != nil {
		ref = e.id
	}
	deaths, deathsErr := src.Deaths(engine.DeathsOptions{Container: ref})
	switch {
	case e.sub == nil && deathsErr != nil:
		return nil, deathsErr
	case e.sub == nil && len(deaths) == 0:
		return nil, err
	case e.sub == nil:
		d := deaths[0]
		e.id, e.name, e.image, e.status, e.run = d.Container, d.Name, d.Image, removed, d.Run
		// A name may have been that of several.
		deaths = slices.DeleteFunc(deaths, func(r *death.Record) bool { return r.Container != e.id })
	}
	e.deaths = deaths
	if err := e.choose(o.Run); err != nil {
		return nil, err
	}
	e.read()
	e.findGaps()
	return e, nil
}

// choose finds the run that is explained.
func (e *evidence) choose(run int) error {
	if run == 0 || run == e.run {
		run = e.run
		if e.running() || run == 0 {
			return nil
		}
	}
	e.run = run
	for _, d := range e.deaths {
		if d.Run == run {
			e.death = d
			return nil
		}
	}
	if e.sub != nil {
		for _, r := range e.sub.Life.Runs {
			if r.Number == run && !r.FinishedAt.IsZero() {
				e.death = fromRun(e.sub, r)
				e.unknown = append(e.unknown, "there is no death record of this run any more: only its code and times are known")
				return nil
			}
		}
	}
	return notFoundRun(e.name, run)
}

// fromRun is a death record of what the container's own record knows.
func fromRun(s *engine.Subject, r state.Run) *death.Record {
	d := &death.Record{Container: s.ID, Name: s.Name, Image: s.Config.Image, Run: r.Number, Started: r.StartedAt, Finished: r.FinishedAt, StartedBy: r.By}
	d.Exit = death.Exit{Observed: !r.Unobserved, Code: r.ExitCode, Signal: signalOf(r.Signal)}
	if r.Error != "" {
		d.StartError = &death.StartError{Message: r.Error}
	}
	if r.OOMKilled {
		d.OOMCount = 1
	}
	d.Cause = death.Judge(d)
	return d
}

func (e *evidence) running() bool {
	return e.sub != nil && (e.sub.Status == container.StateRunning || e.sub.Status == container.StatePaused)
}

// lives tells that the run that is explained goes on.
func (e *evidence) lives() bool { return e.running() && e.death == nil }

func (e *evidence) read() {
	if e.death != nil {
		e.lines = e.death.LastLines
		e.samples = engine.SampleForms(e.death.LastSamples)
		return
	}
	if !e.running() {
		return
	}
	var err error
	if e.lines, err = e.src.LastLines(e.id); err != nil {
		e.unknown = append(e.unknown, "its last lines cannot be read: "+err.Error())
	}
	const lastSamples = 10
	err = e.src.ContainerSamples(e.ctx, e.id, engine.SamplesOptions{Last: lastSamples, Since: e.sub.Life.StartedAt}, func(s *api.Sample) error {
		e.samples = append(e.samples, s)
		return nil
	})
	if err != nil {
		e.unknown = append(e.unknown, "its samples cannot be read: "+err.Error())
	}
	e.look()
}

// maxGaps are told of.
const maxGaps = 3

// findGaps finds the times in which nobody watched its processes.
func (e *evidence) findGaps() {
	switch {
	case e.death != nil:
		e.gaps = e.death.Unwatched
	case e.running():
		list, err := e.src.ContainerUnwatched(e.id)
		if err != nil {
			e.unknown = append(e.unknown, "whether it was watched all the time: "+err.Error())
		}
		for _, u := range list {
			if u.Run == e.run {
				e.gaps = append(e.gaps, u.Gap)
			}
		}
	}
	told := e.gaps[max(0, len(e.gaps)-maxGaps):]
	if n := len(e.gaps) - len(told); n > 0 {
		e.unknown = append(e.unknown, fmt.Sprintf("what its processes did in %d times before, in which no daemon ran: porthole timeline --only unwatched %s", n, e.name))
	}
	for _, g := range told {
		e.unknown = append(e.unknown, "what its processes did, who signalled them and whom they connected to: "+g.Text()+", as no daemon ran")
	}
}

// endedUnwatched tells that nobody watched when it ended.
func (e *evidence) endedUnwatched() bool {
	n := len(e.gaps)
	return e.death != nil && n > 0 && !e.gaps[n-1].Until.Before(e.death.Finished)
}

// maxProcesses are looked at.
const maxProcesses = 512

// look reads its processes twice, so that what passes is not taken for what lasts.
func (e *evidence) look() {
	if len(e.sub.Pids) > maxProcesses {
		e.unknown = append(e.unknown, fmt.Sprintf("only %d of its %d processes were looked at", maxProcesses, len(e.sub.Pids)))
	}
	pids := e.sub.Pids[:min(len(e.sub.Pids), maxProcesses)]
	first := readProcesses(pids)
	if e.sub.Status == container.StatePaused {
		e.procs = first
		return
	}
	began := time.Now()
	select {
	case <-time.After(settle):
	case <-e.ctx.Done():
	}
	second := readProcesses(pids)
	took := time.Since(began).Seconds()
	before := map[int]process{}
	for _, p := range first {
		before[p.pid] = p
	}
	e.cpu = map[int]float64{}
	for _, p := range second {
		old, ok := before[p.pid]
		if p.state == 'Z' {
			if ok && old.state == 'Z' {
				e.zombies = append(e.zombies, p)
			}
			continue
		}
		if ok {
			e.cpu[p.pid] = float64(p.ticks-old.ticks) / ticksPerSecond / took
		}
		p.lasts = ok && old.state == p.state
		if !ok || old.stuck != p.stuck {
			p.stuck = 0
		}
		e.procs = append(e.procs, p)
	}
}

// first is the container's first process; ok is false if it could not be looked at.
func (e *evidence) first() (p process, ok bool) {
	for _, p := range e.procs {
		if p.pid == e.sub.Pid {
			return p, true
		}
	}
	return p, false
}

// who tells who asked for something.
func who(o *event.Origin) string {
	if o == nil {
		return "somebody who is not recorded"
	}
	var words []string
	switch {
	case o.UID != nil:
		words = append(words, fmt.Sprintf("uid %d", *o.UID))
	case o.Subject != "":
		words = append(words, o.Subject, "at "+o.Address)
	case o.Address != "":
		words = append(words, o.Address)
	}
	if o.PID != 0 {
		words = append(words, fmt.Sprintf("pid %d", o.PID))
	}
	if len(o.Command) > 0 {
		words = append(words, fmt.Sprintf("with %q", strings.Join(o.Command, " ")))
	}
	if len(words) == 0 {
		return "the daemon"
	}
	return strings.Join(words, ", ")
}

// summary tells what has happened, without a reason.
func (e *evidence) summary() string {
	switch {
	case e.lives():
		text := fmt.Sprintf("%s is %s, for %s", e.name, e.status, since(e.sub.Life.StartedAt))
		if n := e.sub.Life.RestartCount; n > 0 {
			text += fmt.Sprintf(", restarted %d times by its policy", n)
		}
		return text
	case e.death == nil:
		return fmt.Sprintf("%s is %s and has never run", e.name, e.status)
	}
	d := e.death
	when := units.HumanDuration(time.Since(d.Finished)) + " ago"
	text := fmt.Sprintf("%s, run %d: ", e.name, d.Run)
	if e.step() {
		text = fmt.Sprintf("build step %s (%s): ", e.name, d.Step)
	}
	switch {
	case d.StartError != nil:
		text += fmt.Sprintf("did not start, %s (code %d)", when, d.Exit.Code)
	case d.Shim != nil:
		text += fmt.Sprintf("ended by the engine, as its shim was gone (code %d) %s, after %s", d.Exit.Code, when, ran(d))
	case !d.Exit.Observed:
		text += "ended unseen, at or before " + when
	case d.Exit.Signal != 0:
		text += fmt.Sprintf("ended by %s (code %d) %s, after %s", signalName(d.Exit.Signal), d.Exit.Code, when, ran(d))
	default:
		text += fmt.Sprintf("ended by itself with code %d %s, after %s", d.Exit.Code, when, ran(d))
	}
	if e.status == string(container.StateRestarting) {
		text += "; its restart policy will start it again"
	}
	if e.status == removed && !e.step() {
		text += "; the container was removed"
	}
	return text
}

// step tells that it is a step of a build, which is no container that could be
// removed.
func (e *evidence) step() bool { return e.death != nil && e.death.Step != "" }

func since(t time.Time) string { return units.HumanDuration(time.Since(t)) }

// ran is how long a run lasted.
func ran(d *death.Record) string {
	if d.Started.IsZero() {
		return "an unknown time"
	}
	t := d.Lasted()
	if t < time.Minute {
		return t.Round(time.Millisecond).String()
	}
	return t.Round(time.Second).String()
}

const maxLastWords = 5

func (e *evidence) lastWords() []api.DeathLine {
	var out []api.DeathLine
	for _, l := range e.lines[max(0, len(e.lines)-maxLastWords):] {
		line := api.DeathLine{Time: l.Time, Stream: l.Stream}
		if utf8.Valid(l.Text) {
			line.Text = string(l.Text)
		} else {
			line.Bytes = l.Text
		}
		out = append(out, line)
	}
	return out
}

// history lists all runs that are known, the oldest first.
func (e *evidence) history() []api.WhyRun {
	byRun := map[int]*api.WhyRun{}
	if e.sub != nil {
		for _, r := range e.sub.Life.Runs {
			row := &api.WhyRun{Run: r.Number, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Cause: "running", Text: "it goes on"}
			if !r.FinishedAt.IsZero() {
				e.fill(row, fromRun(e.sub, r))
			}
			row.Began = string(r.Cause)
			byRun[r.Number] = row
		}
	}
	for _, d := range e.deaths {
		row := byRun[d.Run]
		if row == nil {
			row = &api.WhyRun{Run: d.Run}
			byRun[d.Run] = row
		}
		e.fill(row, d)
	}
	var out []api.WhyRun
	for _, r := range byRun {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b api.WhyRun) int { return a.Run - b.Run })
	return out
}

func (e *evidence) fill(row *api.WhyRun, d *death.Record) {
	row.StartedAt, row.FinishedAt, row.Cause, row.Text = d.Started, d.Finished, string(d.Cause), d.Text()
	if d.Exit.Observed {
		code := d.Exit.Code
		row.ExitCode = &code
	}
	if n := len(d.LastLines); n > 0 {
		row.LastLine = strings.ToValidUTF8(string(d.LastLines[n-1].Text), "\uFFFD")
	}
}
