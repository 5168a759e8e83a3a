package timeline

import (
	"fmt"
	"slices"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/watch"
)

// maxRoutine are the last of those entries that tell of nothing unusual, such as a
// program that has done its work, where nobody has asked for them.
const maxRoutine = 300

// activity adds what the processes did.
func (l *line) activity() {
	list, why, err := l.src.ContainerActivity(l.ctx, l.id)
	l.unknown("what its processes did", err)
	if why != nil {
		l.unknown("what its processes do is not recorded", why)
	}
	inTime := slices.DeleteFunc(list, func(e activity.Entry) bool { return e.Time.Before(l.o.Since) || e.Time.After(l.o.Until) })
	left := 0
	if len(l.o.Only) == 0 {
		left = max(0, routine(inTime)-maxRoutine)
	}
	if left > 0 {
		l.out.Unknown = append(l.out.Unknown, fmt.Sprintf("%d programs and connections of before: timeline --only process,connection shows them", left))
	}
	for i := range inTime {
		e := &inTime[i]
		if left > 0 && usual(e) {
			left--
			continue
		}
		l.deed(e)
	}
}

func routine(list []activity.Entry) (n int) {
	for i := range list {
		if usual(&list[i]) {
			n++
		}
	}
	return n
}

// usual tells of what is no sign of trouble.
func usual(e *activity.Entry) bool {
	switch e.Kind {
	case activity.Exec, activity.Connect, activity.Accept:
		return true
	case activity.Exit:
		return !e.Failed()
	case activity.Signal, activity.Refused, activity.Listen:
	}
	return false
}

// deed adds one entry.
func (l *line) deed(e *activity.Entry) {
	source := api.TimelineProcess
	switch e.Kind {
	case activity.Connect, activity.Refused, activity.Accept, activity.Listen:
		source = api.TimelineConnection
	case activity.Exec, activity.Exit, activity.Signal:
	}
	if e.Dropped > 0 {
		l.add(api.TimelineEntry{Time: e.Time, Source: source, Kind: "dropped", Text: fmt.Sprintf("%d times more something happened before this, too fast to be recorded", e.Dropped), Run: e.Run})
	}
	l.add(api.TimelineEntry{Time: e.Time, Source: source, Kind: string(e.Kind), Text: e.Text(), Run: e.Run})
}

// unwatched adds the times in which nobody watched.
func (l *line) unwatched() {
	list, err := l.src.ContainerUnwatched(l.id)
	l.unknown("when nobody watched it", err)
	for _, u := range list {
		l.gap(u.Gap, u.Run)
	}
}

// gap tells of one at its begin, or where the time that was asked for begins in it.
func (l *line) gap(g watch.Gap, run int) {
	at := g.From
	if at.Before(l.o.Since) && g.Until.After(l.o.Since) {
		at = l.o.Since
	}
	l.add(api.TimelineEntry{
		Time: at, Source: api.TimelineProcess, Kind: "unwatched", Run: run,
		Text: g.Text() + ", as no daemon ran: programs, ends, signals and connections of that time are not known",
	})
}
