// Package timeline brings all that is recorded of a container into one order:
// events with who asked for them, lines of output, results of health checks,
// figures that were out of the ordinary, what its processes did, and ends.
//
//	t, err := timeline.Collect(ctx, engine, timeline.Options{Container: "web", Around: "die"})
//
// It reads records alone, and so waits for no container.
package timeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/health"
)

// Source is where records are kept: the engine.
type Source interface {
	Subject(ref string) (engine.Subject, error)
	Deaths(o engine.DeathsOptions) ([]*death.Record, error)
	Events(ctx context.Context, o engine.EventsOptions, fn engine.EventFunc) error
	ContainerLogs(ctx context.Context, ref string, o engine.LogsOptions, fn func(engine.LogEntry) error) error
	ContainerHealth(ref string) (*container.Health, []health.Result, error)
	ContainerActivity(ctx context.Context, ref string) (list []activity.Entry, why, err error)
	ContainerUnwatched(ref string) ([]engine.Unwatched, error)
	ContainerSamples(ctx context.Context, ref string, o engine.SamplesOptions, fn func(*api.Sample) error) error
}

var _ Source = (*engine.Engine)(nil)

// The options that are taken where none are given.
const (
	Window = 30 * time.Second
	Limit  = 1000
)

// Options select what is told.
type Options struct {
	Container    string    // name or id, also of one that was removed
	Since, Until time.Time // zero: from its creation, to now
	// Around names an event; only what lies within Window of its last time is told,
	// in place of Since and Until. Empty: all.
	Around string
	Window time.Duration // 0: the default
	Limit  int           // the last entries only; 0: the default
	// Only has the sources or kinds of entries that are told; empty: all.
	Only []string
}

// removed is the status of a container that is known from its deaths alone.
const removed = "removed"

// line is a timeline in the making.
type line struct {
	ctx  context.Context //nolint:containedctx // of one Collect, which it does not outlive
	src  Source
	o    Options
	id   string
	live bool // the container exists
	out  *api.Timeline
}

// Collect reads what is recorded of a container. One of which nothing is known
// gives errdefs.ErrNotFound.
func Collect(ctx context.Context, src Source, o Options) (*api.Timeline, error) {
	if o.Limit == 0 {
		o.Limit = Limit
	}
	if o.Window == 0 {
		o.Window = Window
	}
	l := &line{ctx: ctx, src: src, o: o, out: &api.Timeline{Entries: []api.TimelineEntry{}}}
	deaths, created, err := l.identify()
	if err != nil {
		return nil, err
	}
	list, err := l.events(created)
	if err != nil {
		return nil, err
	}
	if o.Around != "" {
		if err := l.anchor(list); err != nil {
			return nil, err
		}
	}
	if l.o.Until.IsZero() {
		l.o.Until = time.Now()
	}
	for _, e := range list {
		l.add(e)
	}
	for _, d := range deaths {
		l.death(d)
	}
	if l.live {
		l.log()
		l.health()
		l.samples()
		l.activity()
		l.unwatched()
	}
	l.finish()
	return l.out, ctx.Err()
}

// identify finds the container, or the deaths of one that was removed.
func (l *line) identify() (deaths []*death.Record, created time.Time, err error) {
	sub, missing := l.src.Subject(l.o.Container)
	if missing == nil {
		l.live, l.id, created = true, sub.ID, sub.Created
		l.out.ContainerID, l.out.Name, l.out.Status = sub.ID, sub.Name, string(sub.Status)
	} else if !errdefs.IsNotFound(missing) {
		return nil, created, missing
	}
	ref := l.o.Container
	if l.live {
		ref = l.id
	}
	deaths, err = l.src.Deaths(engine.DeathsOptions{Container: ref, Execs: true})
	switch {
	case err != nil && !(errdefs.IsNotFound(err) && l.live):
		return nil, created, err
	case !l.live && len(deaths) == 0:
		return nil, created, missing
	case !l.live:
		d := deaths[0] // the newest: a name may have been that of several
		l.id, created = d.Container, d.Created
		l.out.ContainerID, l.out.Name, l.out.Status = d.Container, d.Name, removed
		l.out.Unknown = append(l.out.Unknown, "the container was removed: of its output there are the last lines of each run, of its processes what went wrong at the last, of its checks and figures nothing")
	}
	return slices.DeleteFunc(deaths, func(d *death.Record) bool { return d.Container != l.id }), created, nil
}

// events are those about the container, and those of others in which it has a part.
func (l *line) events(created time.Time) (list []api.TimelineEntry, err error) {
	o := engine.EventsOptions{Since: created, Until: time.Now()}
	if !l.o.Since.IsZero() && l.o.Around == "" {
		o.Since = l.o.Since
	}
	if o.Since.After(o.Until) {
		return nil, nil
	}
	err = l.src.Events(l.ctx, o, func(r event.Record) error {
		if e, ok := l.event(&r); ok {
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// telling are the attributes that tell what happened. The others, as the labels of
// the container, are the same with every event.
var telling = []string{"signal", "exitCode", "oldName", "execID", "hostPort", "port", "source", "destination", "mode", "victim", "limit", "driver", "type", "dangerous"}

// shortID is how much of an id is shown.
const shortID = 12

func (l *line) event(r *event.Record) (e api.TimelineEntry, ok bool) {
	own := r.Type == events.ContainerEventType && r.Actor.ID == l.id
	if !own && r.Actor.Attributes["container"] != l.id {
		return e, false
	}
	kind, text, _ := strings.Cut(strings.TrimSpace(string(r.Action)), ": ")
	if r.By == nil && strings.HasPrefix(kind, "exec_") {
		return e, false // a health check, which has entries of its own
	}
	e = api.TimelineEntry{Time: time.Unix(0, r.TimeNano), Source: api.TimelineEvent, Kind: kind, Text: text, Seq: r.Seq, By: actor(r.By)}
	var words []string
	if !own {
		words = append(words, string(r.Type)+" "+r.Actor.Attributes["name"])
	}
	for _, key := range telling {
		v := r.Actor.Attributes[key]
		if key == "execID" {
			v = v[:min(len(v), shortID)]
		}
		if v != "" && (own || key != "type") {
			words = append(words, key+"="+v)
		}
	}
	e.Text = join(text, words)
	return e, true
}

func join(text string, words []string) string {
	if len(words) == 0 {
		return text
	}
	return strings.TrimSpace(text + " (" + strings.Join(words, ", ") + ")")
}

// actor is who asked for something; nil: nobody, or that is not known.
func actor(o *event.Origin) *api.Actor {
	if o == nil {
		return nil
	}
	return &api.Actor{
		UID: o.UID, GID: o.GID, PID: o.PID, Command: o.Command, Address: o.Address, Subject: o.Subject, Request: o.Request, Indirect: o.Indirect,
	}
}

// anchor finds the last event of the kind that was asked for.
func (l *line) anchor(list []api.TimelineEntry) error {
	for _, e := range slices.Backward(list) {
		if e.Kind == l.o.Around || e.Kind+": "+e.Text == l.o.Around {
			l.out.Around = e.Time
			l.o.Since, l.o.Until = e.Time.Add(-l.o.Window), e.Time.Add(l.o.Window)
			return nil
		}
	}
	var kinds []string
	for _, e := range list {
		kinds = append(kinds, e.Kind)
	}
	slices.Sort(kinds)
	err := errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no event %q", l.out.Name, l.o.Around))
	return problem.WithHint(err, "it has: "+strings.Join(slices.Compact(kinds), ", "))
}

// add takes an entry that lies in the time that was asked for.
func (l *line) add(e api.TimelineEntry) {
	if e.Time.Before(l.o.Since) || e.Time.After(l.o.Until) || !l.wanted(&e) {
		return
	}
	e.Text = oneLine(e.Text)
	l.out.Entries = append(l.out.Entries, e)
}

func (l *line) wanted(e *api.TimelineEntry) bool {
	return len(l.o.Only) == 0 || slices.Contains(l.o.Only, e.Source) || slices.Contains(l.o.Only, e.Kind)
}

func oneLine(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", " ⏎ "), "\uFFFD")
}

// death adds what is known of an end. Its last lines stand for the log of a
// container that has none any more.
func (l *line) death(d *death.Record) {
	text := d.Text()
	if d.Exec != "" {
		text = fmt.Sprintf("exec %s (%s) %s", d.Exec[:min(len(d.Exec), shortID)], strings.Join(d.Command, " "), text)
	}
	if d.Box != nil {
		text += fmt.Sprintf("; black box: %d events kept", d.Box.Kept)
	}
	l.add(api.TimelineEntry{Time: d.Finished, Source: api.TimelineDeath, Kind: string(d.Cause), Text: text, Run: d.Run})
	if d.Stop != nil && d.Stop.Action != "" && !d.Stop.At.IsZero() && !l.live {
		l.add(api.TimelineEntry{Time: d.Stop.At, Source: api.TimelineDeath, Kind: d.Stop.Action, Text: "was asked for", Run: d.Run, By: actor(d.Stop.By)})
	}
	if l.live || d.Exec != "" {
		return
	}
	for _, g := range d.Unwatched {
		l.gap(g, d.Run)
	}
	for i := range d.Activity {
		l.deed(&d.Activity[i])
	}
	for _, x := range d.LastLines {
		l.add(api.TimelineEntry{Time: x.Time, Source: api.TimelineLog, Kind: x.Stream, Text: string(x.Text), Run: d.Run})
	}
}

func (l *line) unknown(what string, err error) {
	if err != nil {
		l.out.Unknown = append(l.out.Unknown, what+": "+err.Error())
	}
}

// log adds lines of output, no more than the limit.
func (l *line) log() {
	o := engine.LogsOptions{Stdout: true, Stderr: true, Since: l.o.Since, Until: l.o.Until, Tail: l.o.Limit, Whole: true}
	n := 0
	err := l.src.ContainerLogs(l.ctx, l.id, o, func(e engine.LogEntry) error {
		kind := "stdout"
		if e.Stream == engine.Stderr {
			kind = "stderr"
		}
		if e.Dropped > 0 || e.Parts {
			text := "more of a line is missing here"
			if e.Dropped > 0 {
				text = fmt.Sprintf("%d lines are missing here", e.Dropped)
			}
			l.add(api.TimelineEntry{Time: e.Time, Source: api.TimelineLog, Kind: "dropped", Text: text, Run: e.Run})
		}
		if e.Line != nil {
			n++
			l.add(api.TimelineEntry{Time: e.Time, Source: api.TimelineLog, Kind: kind, Text: string(e.Line), Run: e.Run})
		}
		return nil
	})
	if n >= l.o.Limit {
		l.out.Unknown = append(l.out.Unknown, fmt.Sprintf("of its output the last %d lines were read", n))
	}
	l.unknown("its output", err)
}

func (l *line) health() {
	_, list, err := l.src.ContainerHealth(l.id)
	l.unknown("its health checks", err)
	for _, r := range list {
		kind := "ok"
		text := r.Output
		switch {
		case r.TimedOut:
			kind = "timeout"
		case r.ExitCode != 0:
			kind = "failed"
		}
		if r.ExitCode != 0 {
			text = fmt.Sprintf("code %d, %s, %d in a row: %s", r.ExitCode, r.Status, r.FailingStreak, r.Output)
		}
		l.add(api.TimelineEntry{Time: r.End, Source: api.TimelineHealth, Kind: kind, Text: strings.TrimSpace(text), Run: r.Run})
	}
}

// finish brings all into order and cuts off what is too much.
func (l *line) finish() {
	slices.SortStableFunc(l.out.Entries, func(a, b api.TimelineEntry) int { return a.Time.Compare(b.Time) })
	if n := len(l.out.Entries) - l.o.Limit; n > 0 {
		l.out.Omitted, l.out.Entries = n, l.out.Entries[n:]
	}
}
