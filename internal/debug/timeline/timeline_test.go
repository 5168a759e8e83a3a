package timeline

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/health"
	"github.com/portholehq/porthole/internal/record/watch"
)

var began = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

// records is what is kept of one container, "web".
type records struct {
	removed bool
	events  []event.Record
	lines   int
	deeds   []activity.Entry

	unwatched []engine.Unwatched
}

func (r *records) Subject(ref string) (engine.Subject, error) {
	if r.removed || ref != "web" {
		return engine.Subject{}, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return engine.Subject{Container: &state.Container{ID: "id", Name: "web", Created: began}, Status: container.StateExited}, nil
}

func (r *records) Deaths(engine.DeathsOptions) ([]*death.Record, error) {
	return []*death.Record{
		{
			Container: "id", Name: "web", Run: 1, Created: began, Finished: at(20), Cause: death.Failed, Exit: death.Exit{Code: 3, Observed: true},
			LastLines: []death.Line{{Time: at(19), Stream: "stderr", Text: []byte("boom")}},
		},
		{Container: "older", Name: "web", Run: 1, Finished: at(1), Cause: death.Failed},
	}, nil
}

func (r *records) Events(_ context.Context, o engine.EventsOptions, fn engine.EventFunc) error {
	for _, e := range r.events {
		if t := time.Unix(0, e.TimeNano); t.Before(o.Since) || t.After(o.Until) {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *records) ContainerLogs(_ context.Context, _ string, o engine.LogsOptions, fn func(engine.LogEntry) error) error {
	for i := range min(r.lines, o.Tail) {
		if err := fn(engine.LogEntry{Time: at(10).Add(time.Duration(i)), Stream: engine.Stderr, Line: []byte("line\nsecond\n")}); err != nil {
			return err
		}
	}
	return nil
}

func (r *records) ContainerHealth(string) (*container.Health, []health.Result, error) {
	return nil, []health.Result{{End: at(12), ExitCode: 1, Output: "down\n", Status: "unhealthy", FailingStreak: 2}}, nil
}

func (r *records) ContainerUnwatched(string) ([]engine.Unwatched, error) { return r.unwatched, nil }

func (r *records) ContainerActivity(context.Context, string) (list []activity.Entry, why, err error) {
	return slices.Clone(r.deeds), nil, nil
}

func (r *records) ContainerSamples(_ context.Context, _ string, _ engine.SamplesOptions, fn func(*api.Sample) error) error {
	for i, busy := range []float64{0.1, 0.95, 1, 0.2, 0.1} {
		if err := fn(&api.Sample{Time: at(13 + i), Rate: &api.SampleRate{CPU: busy}}); err != nil {
			return err
		}
	}
	return nil
}

func happened(seconds int, action, id string, attributes map[string]string, by *event.Origin) event.Record {
	m := events.Message{Type: events.ContainerEventType, Action: events.Action(action), TimeNano: at(seconds).UnixNano()}
	m.Actor = events.Actor{ID: id, Attributes: attributes}
	return event.Record{Message: m, By: by}
}

func web() *records {
	uid := uint32(7)
	by := &event.Origin{UID: &uid}
	return &records{lines: 1, events: []event.Record{
		happened(2, "start", "id", map[string]string{"name": "web", "image": "x"}, by),
		happened(3, "start", "another", nil, by),
		happened(11, "exec_start: check", "id", nil, nil),
		happened(18, "kill", "id", map[string]string{"signal": "15"}, by),
		happened(20, "die", "id", map[string]string{"exitCode": "3"}, by),
	}}
}

func show(t *api.Timeline) []string {
	var out []string
	for _, e := range t.Entries {
		who := ""
		if e.By != nil {
			who = " by somebody"
		}
		out = append(out, strings.TrimSpace(e.Time.Sub(began).Round(time.Second).String()+" "+e.Source+" "+e.Kind+" "+e.Text)+who)
	}
	return out
}

func TestCollect(t *testing.T) {
	for _, tt := range []struct {
		name string
		src  *records
		o    Options
		want []string
	}{
		{"all", web(), Options{}, []string{
			"2s event start by somebody", "10s log stderr line ⏎ second", "12s health failed code 1, unhealthy, 2 in a row: down",
			"14s sample cpu-busy it keeps 95% of a processor busy", "16s sample cpu-busy over after 2s, at most 100%",
			"18s event kill (signal=15) by somebody", "20s event die (exitCode=3) by somebody", "20s death failed failed by itself with code 3",
		}},
		{"around", web(), Options{Around: "kill", Window: 2 * time.Second}, []string{
			"16s sample cpu-busy over after 2s, at most 100%", "18s event kill (signal=15) by somebody", "20s event die (exitCode=3) by somebody",
			"20s death failed failed by itself with code 3",
		}},
		{"between", web(), Options{Since: at(11), Until: at(12)}, []string{"12s health failed code 1, unhealthy, 2 in a row: down"}},
		{"the last ones", web(), Options{Limit: 1}, []string{"20s death failed failed by itself with code 3"}},
		{"removed", &records{removed: true, events: web().events}, Options{Since: at(17)}, []string{
			"18s event kill (signal=15) by somebody", "19s log stderr boom", "20s event die (exitCode=3) by somebody",
			"20s death failed failed by itself with code 3",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Container = "web"
			got, err := Collect(t.Context(), tt.src, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, show(got)); diff != "" {
				t.Error(diff)
			}
			if tt.src.removed != (got.Status == removed) || tt.src.removed && len(got.Unknown) == 0 {
				t.Errorf("status %q, not known %q", got.Status, got.Unknown)
			}
		})
	}
}

func TestNothing(t *testing.T) {
	if _, err := Collect(t.Context(), web(), Options{Container: "web", Around: "oom"}); !errdefs.IsNotFound(err) {
		t.Errorf("around an event that never was: %v", err)
	}
	long := web()
	long.lines = 50
	got, err := Collect(t.Context(), long, Options{Container: "web", Limit: 20})
	if err != nil || len(got.Entries) != 20 || got.Omitted == 0 || len(got.Unknown) != 1 {
		t.Errorf("%d entries, %d omitted, not known %q, %v", len(got.Entries), got.Omitted, got.Unknown, err)
	}
}

// What its processes did stands where it happened; of what is usual there are the
// last, unless somebody asks for it.
func TestActivity(t *testing.T) {
	r := web()
	for i := range maxRoutine + 10 {
		r.deeds = append(r.deeds, activity.Entry{Time: at(5).Add(time.Duration(i)), Kind: activity.Exec, PID: i + 2, File: "/bin/true", Command: []string{"true"}})
	}
	r.deeds = append(r.deeds,
		activity.Entry{Time: at(6), Kind: activity.Exit, PID: 7, Name: "worker", Signal: syscall.SIGSEGV, Lived: time.Second, Dropped: 12},
		activity.Entry{Time: at(6), Kind: activity.Refused, PID: 8, Name: "app", Remote: "10.0.0.9:5432", Error: syscall.ECONNREFUSED, More: 3})
	out, err := Collect(t.Context(), r, Options{Container: "web"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	runs := 0
	for _, e := range out.Entries {
		if e.Kind == "exec" {
			runs++
		} else if e.Source == api.TimelineProcess || e.Source == api.TimelineConnection {
			got = append(got, e.Source+" "+e.Kind+" "+e.Text)
		}
	}
	want := []string{
		"process dropped 12 times more something happened before this, too fast to be recorded",
		"process exit process 7 (worker) was ended by SIGSEGV after 1s",
		"connection refused process 8 (app) could not connect to 10.0.0.9:5432: connection refused (and 3 times more in the seconds before)",
	}
	if diff := cmp.Diff(want, got); diff != "" || runs != maxRoutine || !strings.Contains(strings.Join(out.Unknown, ""), "10 programs and connections of before") {
		t.Errorf("%s, %d programs, %q", diff, runs, out.Unknown)
	}
	for _, only := range []string{"process", "exec"} {
		out, err = Collect(t.Context(), r, Options{Container: "web", Only: []string{only}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.Entries {
			if e.Source != api.TimelineProcess {
				t.Errorf("only %s: %+v", only, e)
			}
		}
		if len(out.Entries) < maxRoutine+10 {
			t.Errorf("only %s: %d entries", only, len(out.Entries))
		}
	}
}

// A time in which nobody watched is told of, also from its middle on.
func TestUnwatched(t *testing.T) {
	r := web()
	r.unwatched = []engine.Unwatched{{Run: 1, Gap: watch.Gap{From: at(4), Until: at(9)}}}
	for _, since := range []int{0, 6} {
		out, err := Collect(t.Context(), r, Options{Container: "web", Since: at(since), Only: []string{"unwatched"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Entries) != 1 || !out.Entries[0].Time.Equal(at(max(since, 4))) || !strings.Contains(out.Entries[0].Text, "(5s)") {
			t.Errorf("since %d: %+v", since, out.Entries)
		}
	}
	if out, err := Collect(t.Context(), r, Options{Container: "web", Since: at(10), Only: []string{"unwatched"}}); err != nil || len(out.Entries) != 0 {
		t.Errorf("after it: %+v, %v", out, err)
	}
}
