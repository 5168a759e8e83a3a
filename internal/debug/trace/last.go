package trace

import (
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/problem"
)

// LastOptions select what is told of what a black box has kept. Count, of the
// others, leaves the last so many.
type LastOptions struct {
	Options
	Run  int           // 0: the one that goes on, or the last one
	Last time.Duration // before the end, or before now if it goes on; 0: all that is kept
}

// RecordedSource is what has black boxes: the engine.
type RecordedSource interface {
	Recorded(ref string, run int) (*engine.Recorded, error)
}

var _ RecordedSource = (*engine.Engine)(nil)

// Last tells of what the black box of a container has kept, oldest first, between a
// beginning and an end as of [Run]. The container may be gone. Where nothing narrows it
// down all kinds of events are told, not calls alone.
func Last(src RecordedSource, o LastOptions, emit func(*api.TraceEvent) error) error {
	every := o.View == "" && len(o.Calls) == 0 && !o.Failed && o.Slow == 0 && !o.Summary
	kinds, err := o.settle()
	if err != nil {
		return err
	}
	r, err := src.Recorded(o.Container, o.Run)
	if err != nil {
		return err
	}
	if every {
		kinds.Kinds = []calltrace.Kind{calltrace.Call, calltrace.Exec, calltrace.Exit, calltrace.Signal}
	}
	list := o.choose(r, kinds.Kinds)
	box := &api.TraceBox{Run: r.Run, Since: r.Since, Late: r.Late, Kept: len(r.Events), Seen: r.Seen}
	if r.Death != nil {
		box.Ended = r.Death.Finished
	}
	if err := emit(&api.TraceEvent{Kind: api.TraceBegin, Time: time.Now().UTC(), Box: box}); err != nil {
		return err
	}
	if o.Summary {
		err = emit(&api.TraceEvent{Kind: api.TraceSummary, Time: time.Now().UTC(), Sums: count(list)})
	} else {
		for _, e := range list {
			if err = emit(e); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	return emit(&api.TraceEvent{Kind: api.TraceEnd, Time: time.Now().UTC(), Sent: uint64(len(list)), Lost: r.Lost})
}

// settle checks what cannot be asked of a black box.
func (o *LastOptions) settle() (calltrace.Options, error) {
	switch {
	case o.View == "tcp" || o.View == "dns":
		return calltrace.Options{}, problem.WithHint(problem.Errorf(errdefs.ErrInvalidArgument, "a black box keeps nothing for the view %s", o.View), "it has calls, exec, open and signal")
	case o.Duration != 0:
		return calltrace.Options{}, problem.Errorf(errdefs.ErrInvalidArgument, "what a black box has kept is there at once: there is no time to wait for")
	case o.Last < 0 || o.Run < 0:
		return calltrace.Options{}, problem.Errorf(errdefs.ErrInvalidArgument, "times and runs must not be negative")
	}
	return o.Options.settle()
}

// kindOf are the kinds of events in the words of the API.
var kindOf = map[calltrace.Kind]string{
	calltrace.Call: api.TraceCall, calltrace.Exec: api.TraceExec, calltrace.Exit: api.TraceExit, calltrace.Signal: api.TraceSignal,
}

// choose are the events that are meant.
func (o *LastOptions) choose(r *engine.Recorded, kinds []calltrace.Kind) []*api.TraceEvent {
	since := time.Time{}
	if o.Last > 0 {
		since = time.Now().Add(-o.Last)
		if r.Death != nil {
			since = r.Death.Finished.Add(-o.Last)
		}
	}
	calls := o.Calls
	if o.View == "open" && len(calls) == 0 {
		calls = opening
	}
	var list []*api.TraceEvent
	for _, e := range r.Events {
		took := time.Duration(e.TookNanoseconds)
		switch {
		case !slices.ContainsFunc(kinds, func(k calltrace.Kind) bool { return kindOf[k] == e.Kind }):
		case e.Time.Before(since) && (e.Kind != api.TraceCall || e.Time.Add(took).Before(since)): // a call that lasted until then counts
		case e.Kind == api.TraceCall && len(calls) > 0 && !slices.Contains(calls, e.Call):
		case o.Failed && e.Errno == "":
		case o.Slow > 0 && took < o.Slow:
		default:
			list = append(list, e)
		}
	}
	if o.Count > 0 {
		list = list[max(0, len(list)-o.Count):]
	}
	return list
}

// count sums up calls, as the kernel does for [Run].
func count(list []*api.TraceEvent) []api.TraceSum {
	at := map[string]int{}
	out := []api.TraceSum{}
	for _, e := range list {
		if e.Unfinished {
			continue
		}
		i, ok := at[e.Call]
		if !ok {
			i = len(out)
			at[e.Call] = i
			out = append(out, api.TraceSum{Call: e.Call})
		}
		s := &out[i]
		s.Calls++
		s.Nanoseconds += e.TookNanoseconds
		s.LongestNanoseconds = max(s.LongestNanoseconds, e.TookNanoseconds)
		if e.Errno != "" {
			if s.Errors == nil {
				s.Errors = map[string]uint64{}
			}
			s.Errors[e.Errno]++
		}
	}
	sortSums(out)
	return out
}
