package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/frontend"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/llbsolver"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/problem"
)

// A debugSession is a build that goes from one instruction to the next, each as
// a job of the solver, and stops in between and inside of steps.
//
// One goroutine, in run, does the work. While it has stopped, it waits for an
// order; all other commands only look.
type debugSession struct {
	id       string
	b        *Builder
	o        order.Options
	when     order.Debug
	attrs    map[string]string
	session  string
	names    []string
	dir      string // what steps have mounted, and write into what they like
	tools    string // for our tools, which steps see read-only
	classic  *classic
	solver   *llbsolver.Solver
	watchers watchers
	orders   chan debugOrder
	ended    chan struct{} // closed when the build has ended, or is to
	endOnce  sync.Once
	bringing sync.Mutex // held while tools are copied
	jobs     debugJobs
	salts    salts
	// recording is what goes into the history.
	recording *recording

	// Of the goroutine that builds.
	next   int          // index of the instruction to be done next
	states []debugState // of those that were done; early ones have none of their own
	step   bool         // stop before the next instruction
	inside bool         // stop inside of the step that is about to run
	redo   bool         // the instruction is to be done although it is in the cache

	// mu guards what commands look at as well. It is never held while anything
	// is done.
	mu       sync.Mutex
	text     string
	list     []instruction
	stop     *api.BuildStop     // nil: it goes on
	gone     chan struct{}      // closed when it goes on
	live     *liveStep          // where stop is inside of; nil if it is not
	files0   cache.ImmutableRef // of the state before, while it has stopped; may be nil
	history  []string
	sizes    chan step.Size // of the terminal of the process that runs, one at a time; nil: there is none
	repaired bool
	done     int // instructions
}

// debugState is what an instruction has led to.
type debugState struct {
	files cache.ImmutableRef // nil: no files
	image *dockerspec.DockerOCIImage
}

// A debugOrder is a command that makes the build go on.
type debugOrder struct {
	api.BuildCommand
	taken chan error // gets why it cannot be done, or nil
}

var errDebugQuit = problem.Errorf(errdefs.ErrAborted, "the build was ended by its debugger")

// tell sends an event to the client.
func (s *debugSession) tell(stop *api.BuildStop) {
	raw, err := marshalRaw(api.BuildDebug{Debug: api.BuildDebugEvent{Session: s.id, Stop: stop}})
	if err != nil {
		return
	}
	s.classic.mu.Lock()
	defer s.classic.mu.Unlock()
	s.classic.report(jsonstream.Message{Aux: raw})
}

// run builds, to the end.
func (s *debugSession) run(ctx context.Context) (string, error) {
	stopEnd := context.AfterFunc(ctx, s.end)
	defer stopEnd()
	defer s.end()
	s.step = s.when.Step
	for s.next < len(s.list) {
		in := s.list[s.next]
		hit := !in.early && s.hits(in)
		if !in.early && (s.step || hit && in.command == "") {
			reason := api.BuildStopStep
			if hit {
				reason = api.BuildStopBreakpoint
			}
			if moved, err := s.pause(ctx, s.describe(in, reason)); err != nil || moved {
				if err != nil {
					return "", err
				}
				continue
			}
		}
		s.inside = hit && in.command != ""
		s.redo = s.inside || s.isRepaired()
		if err := s.do(ctx, in); err != nil {
			return "", err
		}
	}
	return s.finish(ctx)
}

// end ends what runs for the debugger.
func (s *debugSession) end() { s.endOnce.Do(func() { close(s.ended) }) }

// hits tells whether a breakpoint is in an instruction, or in front of it and
// behind the one before.
func (s *debugSession) hits(in instruction) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := 0
	if s.next > 0 {
		before = s.list[s.next-1].end
	}
	return slices.ContainsFunc(s.when.Lines, func(l int) bool { return l > before && l <= in.end })
}

// do does one instruction, and decides which is next.
func (s *debugSession) do(ctx context.Context, in instruction) error {
	s.classic.begin(s.next+1, len(s.list), in.head, in.command)
	if in.early {
		s.keep(debugState{})
		return nil
	}
	s.begun()
	state, err := s.solve(ctx, in)
	s.over(err)
	var turn *debugTurn
	switch {
	case errors.As(err, &turn):
		return s.turn(turn.command)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errDebugQuit):
		return errDebugQuit
	case err != nil:
		// A step that failed has stopped inside; this is any other instruction, or
		// one that was left so.
		var exit *gatewayapi.ExitError
		if errors.As(err, &exit) {
			return s.classic.failure(ctx, err)
		}
		stop := s.describe(in, api.BuildStopFailure)
		stop.Error = describeError(err)
		_, err := s.pause(ctx, stop) // it cannot be passed over
		return err
	}
	s.classic.mu.Lock()
	cached := in.works && !s.classic.did
	s.classic.mu.Unlock()
	if cached {
		s.classic.stream(" ---> Using cache\n")
	}
	s.keep(state)
	return nil
}

// keep notes what the next instruction has led to.
func (s *debugSession) keep(st debugState) {
	if st.image == nil && len(s.states) > 0 {
		st.image = s.states[len(s.states)-1].image
	}
	s.states = append(s.states, st)
	s.next++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = s.next
}

// forget gives back what the states hold.
func (s *debugSession) forget() { s.rewind(0) }

// rewind goes back to in front of an instruction.
func (s *debugSession) rewind(to int) {
	for _, st := range s.states[to:] {
		if st.files != nil {
			_ = st.files.Release(context.Background())
		}
	}
	s.states = s.states[:to]
	s.next = to
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = to
}

// pause stops in front of the next instruction until there is an order. moved
// tells that another instruction is to be looked at now.
func (s *debugSession) pause(ctx context.Context, stop *api.BuildStop) (moved bool, err error) {
	c, err := s.wait(ctx, stop, nil)
	if err != nil {
		return false, err
	}
	s.step = c.Verb == api.BuildNext
	switch c.Verb {
	case api.BuildNext, api.BuildContinue:
		return false, nil
	}
	return true, s.turn(c)
}

// turn does what an order wants, other than to go on. It stops at the
// instruction that is next then.
func (s *debugSession) turn(c api.BuildCommand) error {
	s.step = true
	switch c.Verb {
	case api.BuildQuit:
		return errDebugQuit
	case api.BuildBack:
		to := s.next - 1
		for to > 0 && s.list[to].early {
			to--
		}
		s.rewind(max(to, 0))
	case api.BuildEdit, api.BuildRetry:
		s.step = false // it is done at once
	}
	return nil
}

// wait stops until there is an order that makes the build go on.
func (s *debugSession) wait(ctx context.Context, stop *api.BuildStop, live *liveStep) (api.BuildCommand, error) {
	s.mu.Lock()
	stop.Live, stop.Repaired = live != nil, s.repaired
	s.stop, s.live, s.files0, s.history = stop, live, s.before().files, nil
	s.gone = make(chan struct{})
	s.mu.Unlock()
	s.tell(stop)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stop, s.live, s.files0 = nil, nil, nil
		close(s.gone) // an order that came too late must not wait for the next stop, and be done there
	}()
	for {
		select {
		case <-ctx.Done():
			return api.BuildCommand{}, context.Cause(ctx)
		case o := <-s.orders:
			err := s.check(o.BuildCommand, stop)
			o.taken <- err
			if err == nil {
				s.tell(nil)
				return o.BuildCommand, nil
			}
		}
	}
}

// check tells why an order cannot be done, and does what can be wrong of it.
func (s *debugSession) check(c api.BuildCommand, stop *api.BuildStop) error {
	switch c.Verb {
	case api.BuildBack:
		if s.next == 0 || !slices.ContainsFunc(s.list[:s.next], func(in instruction) bool { return !in.early }) {
			return problem.Errorf(errdefs.ErrFailedPrecondition, "there is no instruction before this one")
		}
	case api.BuildRetry:
		if stop.Reason != api.BuildStopFailure {
			return problem.WithHint(problem.Errorf(errdefs.ErrFailedPrecondition, "the instruction has not failed"), "do it with next or continue")
		}
	case api.BuildContinue, api.BuildNext:
		if stop.Error != "" {
			return problem.WithHint(problem.Errorf(errdefs.ErrFailedPrecondition, "the build cannot go on without what the instruction was to do"),
				"edit the instruction, or try it again with retry")
		}
	case api.BuildEdit:
		return s.edit(c.Text)
	}
	return nil
}

// edit puts text in the place of the next instruction.
func (s *debugSession) edit(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.SplitAfter(s.text, "\n")
	in := s.list[s.next]
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	edited := strings.Join(lines[:in.start-1], "") + text + strings.Join(lines[min(in.end, len(lines)):], "")
	list, err := instructionsOf([]byte(edited), s.o.Target)
	if err != nil {
		return problem.Errorf(errdefs.ErrInvalidArgument, "%s", err)
	}
	if len(list) <= s.next || list[s.next].start < in.start {
		return problem.Errorf(errdefs.ErrInvalidArgument, "that is no instruction")
	}
	s.moveBreaks(in, list[len(list)-1].end-s.list[len(s.list)-1].end)
	s.text, s.list = edited, list
	return nil
}

// moveBreaks moves the breakpoints behind an instruction that was edited. The
// caller holds mu.
func (s *debugSession) moveBreaks(in instruction, by int) {
	for i, l := range s.when.Lines {
		if l > in.end {
			s.when.Lines[i] = l + by
		}
	}
}

// describe tells where the build stops before an instruction.
func (s *debugSession) describe(in instruction, reason string) *api.BuildStop {
	stop := &api.BuildStop{
		Reason: reason, File: s.attrs["filename"], Line: in.start, End: in.end, Index: s.next + 1, Total: len(s.list), Instruction: s.textOf(in),
		Args: buildArgs(s.o), Env: []string{}, Mounts: []api.BuildMount{},
	}
	if image := s.before().image; image != nil {
		stop.Env = append(stop.Env, image.Config.Env...)
		stop.User, stop.Cwd = image.Config.User, image.Config.WorkingDir
	}
	return stop
}

// textOf is the text of an instruction.
func (s *debugSession) textOf(in instruction) string {
	lines := strings.SplitAfter(s.text, "\n")
	return strings.TrimRight(strings.Join(lines[in.start-1:min(in.end, len(lines))], ""), "\n")
}

// before is the state that the next instruction starts from.
func (s *debugSession) before() debugState {
	if s.next == 0 || s.list[min(s.next, len(s.list)-1)].from {
		return debugState{}
	}
	return s.states[s.next-1]
}

// solve does an instruction as a job of its own.
func (s *debugSession) solve(ctx context.Context, in instruction) (debugState, error) {
	ref := identity.NewID()
	job := &debugJob{in: in}
	s.mu.Lock()
	lines := strings.SplitAfter(s.text, "\n")
	s.mu.Unlock()
	job.text = []byte(strings.Join(lines[:min(in.end, len(lines))], ""))
	s.jobs.put(ref, job)
	defer s.jobs.remove(ref)
	attrs := map[string]string{}
	maps.Copy(attrs, s.attrs)
	attrs[attrBuild] = ref
	_, err := s.solver.Solve(ctx, ref, s.session, frontend.SolveRequest{
		Frontend: frontendDebug, FrontendOpt: attrs, CacheImports: cacheEntries(s.o),
	}, 0, llbsolver.ExporterRequest{}, nil, nil, true, nil, "", false)
	if err != nil {
		return debugState{}, err
	}
	return job.state, nil
}

// command does what a debugger says.
func (s *debugSession) command(ctx context.Context, c api.BuildCommand) (api.BuildAnswer, error) {
	switch c.Verb {
	case api.BuildWhere:
		s.mu.Lock()
		defer s.mu.Unlock()
		return api.BuildAnswer{Stop: s.stop}, nil
	case api.BuildText:
		return s.source(), nil
	case api.BuildBreaks:
		return s.breaks(c.Lines), nil
	case api.BuildFiles:
		return s.files(ctx, c.Path)
	case api.BuildNext, api.BuildContinue, api.BuildBack, api.BuildRetry, api.BuildEdit, api.BuildQuit:
	default:
		return api.BuildAnswer{}, problem.Errorf(errdefs.ErrInvalidArgument, "unknown verb %q", c.Verb)
	}
	s.mu.Lock()
	stopped, live, gone := s.stop != nil, s.live, s.gone
	s.mu.Unlock()
	if !stopped {
		return api.BuildAnswer{}, errBuildRuns()
	}
	if live != nil {
		if !live.busy.TryLock() {
			return api.BuildAnswer{}, problem.Errorf(errdefs.ErrConflict, "a command is still running in the step")
		}
		live.busy.Unlock()
	}
	o := debugOrder{BuildCommand: c, taken: make(chan error, 1)}
	select {
	case s.orders <- o:
		return api.BuildAnswer{}, <-o.taken
	case <-gone:
		return api.BuildAnswer{}, errBuildRuns()
	case <-ctx.Done():
		return api.BuildAnswer{}, context.Cause(ctx)
	}
}

func errBuildRuns() error {
	return problem.Errorf(errdefs.ErrFailedPrecondition, "the build has not stopped")
}

// source tells the Dockerfile as it is now.
func (s *debugSession) source() api.BuildAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := api.BuildAnswer{Text: s.text, Stop: s.stop, History: s.history}
	for i, in := range s.list {
		a.Instructions = append(a.Instructions, api.BuildInstruction{Line: in.start, End: in.end, Text: s.textOf(in), Done: i < s.done})
	}
	return a
}

// breaks sets the breakpoints and tells where each of them is.
func (s *debugSession) breaks(lines []int) api.BuildAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.when.Lines = slices.Clone(lines)
	a := api.BuildAnswer{Lines: make([]int, len(lines))}
	for i, l := range lines {
		for _, in := range s.list {
			if !in.early && in.end >= l {
				a.Lines[i] = in.start
				break
			}
		}
	}
	return a
}

// A debugTurn ends a step that another instruction is to be done in place of.
type debugTurn struct{ command api.BuildCommand }

func (t *debugTurn) Error() string { return fmt.Sprintf("the debugger wants to %s", t.command.Verb) }
