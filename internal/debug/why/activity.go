package why

import (
	"fmt"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/death"
)

// lastDeeds is how long before the end of a run what happened to its processes is
// told of; maxDeeds of them are.
const (
	lastDeeds = 10 * time.Second
	maxDeeds  = 6
)

// deathNotes tell what happened in the container right before its end: which of
// its processes did not end well, first the first, and what they could not reach.
func (e *evidence) deathNotes() (notes []string) {
	if e.death == nil {
		return nil
	}
	notes = append(notes, boxNotes(e.death)...)
	list := before(e.death)
	for i := range list[:min(len(list), maxDeeds)] {
		x := &list[i]
		notes = append(notes, fmt.Sprintf("%s before its end %s", gap(e.death, x), x.Text()))
	}
	if more := len(list) - maxDeeds; more > 0 {
		notes = append(notes, fmt.Sprintf("and %d times more: porthole timeline --around die --only exit,signal,refused %s", more, e.name))
	}
	return notes
}

// boxNotes quote the black box of a run that did not end as it should: the last calls
// of it that failed. They are no cause: programs try much that fails.
func boxNotes(d *death.Record) (notes []string) {
	if d.Box == nil || d.Cause == death.Completed || d.Cause == death.Stopped {
		return nil
	}
	if n := len(d.Box.Failed); n > 0 {
		c := d.Box.Failed[n-1]
		by := ""
		if c.PID > 1 {
			by = fmt.Sprintf(", by process %d (%s)", c.PID, c.Program)
		}
		ended := d.Finished
		if at := d.Box.Ended; !at.IsZero() { // the shim hears of it later
			ended = at
		}
		ago := max(0, ended.Sub(c.Time.Add(time.Duration(c.Took))).Round(time.Microsecond))
		if ago > time.Millisecond {
			ago = ago.Round(time.Millisecond)
		}
		notes = append(notes, fmt.Sprintf("its last failed call: %s, %v before its end%s", c.Text(), ago, by))
	}
	if d.Box.Late {
		notes = append(notes, "of its calls those before "+d.Box.Since.Local().Format(time.TimeOnly)+", under an earlier daemon, are not known")
	}
	return append(notes, fmt.Sprintf("its black box has kept %d of %d events: porthole trace --run %d %s", d.Box.Kept, d.Box.Seen, d.Run, d.Name))
}

// before are the deeds of the last seconds, up to the end of the first process:
// what the kernel kills then is no cause.
func before(d *death.Record) (list []activity.Entry) {
	for _, x := range d.Activity {
		if x.Kind == activity.Exit && x.PID == 1 {
			break
		}
		// The end of the run is noted a little later than the kernel's.
		if d.Finished.Sub(x.Time) > lastDeeds || x.PID == 1 && x.Kind == activity.Signal && x.Signal == d.Exit.Signal {
			continue
		}
		list = append(list, x)
	}
	return list
}

func gap(d *death.Record, x *activity.Entry) string {
	return max(0, d.Finished.Sub(x.Time)).Round(time.Millisecond).String()
}

// passedOn is the end of another process that the first one has answered with its
// own: its code is that of the other, or what shells make of its signal.
func passedOn(d *death.Record) *activity.Entry {
	const signalled, soon = 128, 2 * time.Second
	list := before(d)
	for i := len(list) - 1; i >= 0; i-- {
		x := &list[i]
		code := x.Code
		if x.Signal != 0 {
			code = signalled + int(x.Signal)
		}
		if x.Failed() && code == d.Exit.Code && d.Exit.Signal == 0 && d.Finished.Sub(x.Time) < soon {
			return x
		}
	}
	return nil
}

// passedOnText says so, to be appended to what is said of the end.
func passedOnText(d *death.Record) string {
	x := passedOn(d)
	if x == nil {
		return ""
	}
	if x.Signal == syscall.Signal(0) {
		return fmt.Sprintf("; %s had ended with that code just before", x.Process())
	}
	return fmt.Sprintf("; %s had just been ended by %s", x.Process(), signalName(x.Signal))
}
