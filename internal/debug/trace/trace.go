// Package trace shows what the processes of a running container do: their system
// calls, and programs, signals and connections.
//
// [Run] follows them by the kernel's tracepoints (internal/linux/calltrace) until
// it is told to end, and gives each event in words. Nothing in the container is
// changed or stopped, and it cannot tell; what comes faster than it can be told is
// dropped and counted.
package trace

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/queries"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/blackbox"
)

// Source is what knows the containers: the engine.
type Source interface {
	Trace(ref string) (t engine.TraceTarget, release func(), err error)
	queries.Source
}

var _ Source = (*engine.Engine)(nil)

// Options select what is told.
type Options struct {
	Container string
	View      string   // calls, dns, exec, signal, tcp or open; empty: calls
	Calls     []string // only these calls; empty: all of the view
	Failed    bool     // only calls that fail
	Slow      time.Duration
	Summary   bool // count, and tell of no single call
	Count     int  // end after so many events; 0: no end
	Duration  time.Duration
}

// Views by their name, with what they show.
var views = map[string][]calltrace.Kind{
	"calls": {calltrace.Call}, "open": {calltrace.Call}, "exec": {calltrace.Exec, calltrace.Exit},
	"signal": {calltrace.Signal}, "tcp": {calltrace.TCP},
}

// opening are the calls of the view open.
var opening = []string{"open", "openat", "openat2", "creat"}

// settle checks the options, and makes those of a tracer of them.
func (o *Options) settle() (calltrace.Options, error) {
	out := calltrace.Options{Failed: o.Failed, Slow: o.Slow, Summary: o.Summary}
	if o.View == "" {
		o.View = "calls"
	}
	if out.Kinds = views[o.View]; out.Kinds == nil {
		return out, problem.WithHint(problem.Errorf(errdefs.ErrInvalidArgument, "unknown view: %s", o.View), "there are calls, dns, exec, open, signal and tcp")
	}
	if !slices.Contains(out.Kinds, calltrace.Call) && (o.Failed || o.Slow > 0 || o.Summary || len(o.Calls) > 0) {
		return out, problem.Errorf(errdefs.ErrInvalidArgument, "the view %s shows no system calls: it cannot be narrowed to some of them, or summed up", o.View)
	}
	if err := o.bounds(); err != nil {
		return out, err
	}
	out.Calls = o.Calls
	if o.View == "open" && len(o.Calls) == 0 {
		for _, name := range opening {
			if _, ok := syscalls.Number("", name); ok { // arm64 has not all of them
				out.Calls = append(out.Calls, name)
			}
		}
	}
	for _, name := range out.Calls {
		if _, ok := syscalls.Number("", name); !ok {
			return out, unknownCall(name)
		}
	}
	return out, nil
}

// unknownCall tells of a name that no call has, and of those that are like it.
func unknownCall(name string) error {
	err := problem.Errorf(errdefs.ErrInvalidArgument, "unknown system call: %s", name)
	for _, other := range []string{name + "at", "rt_" + name, name + "64", "new" + name, name + "2", name + "4", strings.TrimSuffix(name, "64")} {
		if _, ok := syscalls.Number("", other); ok && other != name {
			return problem.WithHint(err, "on this machine there is "+other)
		}
	}
	return err
}

// Run tells of a running container until ctx ends, the container does, or what was
// asked for is there, which are all no errors. The first event says that it has
// begun, the last why it has ended. Emit is called by one goroutine; its error
// ends the trace and is returned.
func Run(ctx context.Context, src Source, o Options, emit func(*api.TraceEvent) error) error {
	if o.View == "dns" {
		return runQueries(ctx, src, o, emit)
	}
	opts, err := o.settle()
	if err != nil {
		return err
	}
	target, release, err := src.Trace(o.Container)
	if err != nil {
		return err
	}
	defer release()
	opts.Group, opts.Part = target.Group, target.App
	tracer, err := calltrace.Open(opts)
	if err != nil {
		return unavailable(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-target.Done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	if o.Duration > 0 {
		timer := time.AfterFunc(o.Duration, func() { cancel(errTime) })
		defer timer.Stop()
	}
	s := session{options: o, tracer: tracer, emit: emit, stop: cancel}
	err = s.run(ctx)
	return errors.Join(err, tracer.Close())
}

// runQueries is Run for the view dns, which the kernel is not asked for.
func runQueries(ctx context.Context, src Source, o Options, emit func(*api.TraceEvent) error) error {
	if o.Summary || len(o.Calls) > 0 {
		return problem.Errorf(errdefs.ErrInvalidArgument, "the view dns shows no system calls: it cannot be narrowed to some of them, or summed up")
	}
	if err := o.bounds(); err != nil {
		return err
	}
	return queries.Run(ctx, src, queries.Options{
		Container: o.Container, Failed: o.Failed, Slow: o.Slow, Count: o.Count, Duration: o.Duration,
	}, emit)
}

func (o *Options) bounds() error {
	if o.Slow < 0 || o.Count < 0 || o.Duration < 0 {
		return problem.Errorf(errdefs.ErrInvalidArgument, "times and counts must not be negative")
	}
	return nil
}

// Why a trace has ended.
var (
	errEnded = errors.New("the container has ended")
	errTime  = errors.New("the time is over")
	errCount = errors.New("so many were asked for")
)

// unavailable says what can be done instead where the kernel does not let us.
func unavailable(err error) error {
	hint := "follow single processes in a debug session: porthole debug CONTAINER -- strace -f -p 1"
	if probe.IsUnsupported(err) {
		return problem.WithHint(errdefs.ErrNotImplemented.WithMessage("containers cannot be traced: "+err.Error()), hint)
	}
	return problem.WithHint(errdefs.ErrUnavailable.WithMessage("containers cannot be traced: "+err.Error()), hint)
}

// session is one trace.
type session struct {
	options Options
	tracer  *calltrace.Tracer
	words   blackbox.Words
	emit    func(*api.TraceEvent) error
	stop    context.CancelCauseFunc
	told    int    // events so far
	lost    uint64 // that were told of
	looked  time.Time
}

// each second lost events are told of, and sums.
const often = time.Second

func (s *session) run(ctx context.Context) error {
	if err := s.emit(&api.TraceEvent{Kind: api.TraceBegin, Time: time.Now().UTC()}); err != nil {
		return err
	}
	if err := s.tracer.Run(ctx, s.event, s.idle); err != nil {
		return err
	}
	if err := s.sum(); err != nil {
		return err
	}
	c, err := s.tracer.Counts()
	if err != nil {
		return err
	}
	return s.emit(&api.TraceEvent{Kind: api.TraceEnd, Time: time.Now().UTC(), Sent: c.Sent, Lost: c.Lost, Why: reason(ctx)})
}

func reason(ctx context.Context) string {
	for _, err := range []error{errEnded, errTime, errCount} {
		if errors.Is(context.Cause(ctx), err) {
			return err.Error()
		}
	}
	return "it was told to"
}

func (s *session) event(e *calltrace.Event) error {
	if s.options.Count > 0 && s.told == s.options.Count {
		return nil // what is left in the ring
	}
	if !s.wanted(e) {
		return nil
	}
	s.told++
	if err := s.emit(s.words.Event(e)); err != nil {
		return err
	}
	if s.told == s.options.Count {
		s.stop(errCount)
	}
	return s.idle()
}

// wanted sorts out what the kernel could not: the calls of 32-bit programs have
// other numbers, and so have those beyond the table.
func (s *session) wanted(e *calltrace.Event) bool {
	calls := s.options.Calls
	if s.options.View == "open" && len(calls) == 0 {
		calls = opening
	}
	return e.Kind != calltrace.Call || len(calls) == 0 || slices.Contains(calls, e.Call.Name())
}

// idle tells from time to time what is not an event by itself.
func (s *session) idle() error {
	if time.Since(s.looked) < often {
		return nil
	}
	s.looked = time.Now()
	c, err := s.tracer.Counts()
	if err != nil {
		return err
	}
	if c.Lost > s.lost {
		lost := c.Lost - s.lost
		s.lost = c.Lost
		if err := s.emit(&api.TraceEvent{Kind: api.TraceLost, Time: time.Now().UTC(), Lost: lost}); err != nil {
			return err
		}
	}
	return s.sum()
}

// sum tells the sums so far.
func (s *session) sum() error {
	if !s.options.Summary {
		return nil
	}
	list, err := s.tracer.Summary()
	if err != nil {
		return err
	}
	return s.emit(&api.TraceEvent{Kind: api.TraceSummary, Time: time.Now().UTC(), Sums: sums(list)})
}

// sums joins those of each call, the one that took the longest first.
func sums(list []calltrace.Sum) []api.TraceSum {
	at := map[string]int{}
	out := []api.TraceSum{}
	for _, x := range list {
		i, ok := at[x.Name]
		if !ok {
			i = len(out)
			at[x.Name] = i
			out = append(out, api.TraceSum{Call: x.Name})
		}
		s := &out[i]
		s.Calls += x.Calls
		s.Nanoseconds += int64(x.Took)
		s.LongestNanoseconds = max(s.LongestNanoseconds, int64(x.Longest))
		if x.Error != 0 {
			if s.Errors == nil {
				s.Errors = map[string]uint64{}
			}
			s.Errors[syscalls.Errno(x.Error)] += x.Calls
		}
	}
	sortSums(out)
	return out
}

// sortSums has the one that took the longest first.
func sortSums(list []api.TraceSum) {
	slices.SortFunc(list, func(a, b api.TraceSum) int {
		return cmp.Or(cmp.Compare(b.Nanoseconds, a.Nanoseconds), strings.Compare(a.Call, b.Call))
	})
}
