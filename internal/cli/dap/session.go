package dap

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/go-dap"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/images"
)

// thread is the only one: the build.
const thread = 1

// failureFilter names the exception that a failed instruction is.
const failureFilter = "failure"

// launchArguments are what an editor launches a build with.
type launchArguments struct {
	ContextPath string            `json:"contextPath"`
	Dockerfile  string            `json:"dockerfile"`
	Target      string            `json:"target"`
	Platform    string            `json:"platform"`
	Args        map[string]string `json:"args"`
	Tags        []string          `json:"tags"`
	NoCache     bool              `json:"noCache"`
	Pull        bool              `json:"pull"`
	StopOnEntry bool              `json:"stopOnEntry"`
	NoDebug     bool              `json:"noDebug"`
}

// session is one build that an editor debugs. Its requests are handled one after
// the other, but for those that run something in the build.
type session struct {
	a *command.App

	writing sync.Mutex
	w       io.Writer
	seq     int

	ctx      context.Context //nolint:containedctx // the life of the session, for what requests start
	cancel   context.CancelFunc
	running  sync.WaitGroup
	launch   *launchArguments
	started  bool
	catching bool // failures stop the build

	mu      sync.Mutex
	c       *client.Client
	id      string // of the build
	file    string // the Dockerfile
	lines   []int  // breakpoints
	stop    *api.BuildStop
	reverse bool // going back to a breakpoint
	handles handles
}

// serve speaks with one editor until it goes away.
func serve(ctx context.Context, a *command.App, conn io.ReadWriter) error {
	s := &session{a: a, w: conn, catching: true}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.running.Wait()
	defer s.cancel()
	return s.listen(bufio.NewReader(conn))
}

func (s *session) listen(r *bufio.Reader) error {
	for {
		m, err := dap.ReadProtocolMessage(r)
		var unknown *dap.DecodeProtocolMessageFieldError
		switch {
		case errors.As(err, &unknown):
			s.send(&dap.ErrorResponse{Response: dap.Response{
				ProtocolMessage: dap.ProtocolMessage{Type: "response"}, RequestSeq: unknown.Seq, Message: unknown.Error(),
			}})
			continue
		case errors.Is(err, io.EOF), s.ctx.Err() != nil:
			return nil //nolint:nilerr // the editor has gone, or the session is over
		case err != nil:
			return fmt.Errorf("read from the editor: %w", err)
		}
		request, ok := m.(dap.RequestMessage)
		if !ok {
			continue
		}
		if end := s.handle(request); end {
			return nil
		}
	}
}

// send sends a message to the editor. One that has gone is noticed by reading.
func (s *session) send(m dap.Message) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.seq++
	switch m := m.(type) {
	case dap.ResponseMessage:
		m.GetResponse().Seq = s.seq
	case dap.EventMessage:
		m.GetEvent().Seq = s.seq
	}
	_ = dap.WriteProtocolMessage(s.w, m)
}

func event(name string) dap.Event {
	return dap.Event{ProtocolMessage: dap.ProtocolMessage{Type: "event"}, Event: name}
}

func answer(r dap.RequestMessage) dap.Response {
	request := r.GetRequest()
	return dap.Response{
		ProtocolMessage: dap.ProtocolMessage{Type: "response"}, RequestSeq: request.Seq, Command: request.Command, Success: true,
	}
}

// refuse answers that a request cannot be done.
func (s *session) refuse(r dap.RequestMessage, err error) {
	a := answer(r)
	a.Success, a.Message = false, err.Error()
	text := err.Error()
	s.mu.Lock()
	c := s.c
	s.mu.Unlock()
	if c != nil {
		if hint := c.Hint(err); hint != "" {
			text += "\n" + hint
		}
	}
	s.send(&dap.ErrorResponse{Response: a, Body: dap.ErrorResponseBody{Error: &dap.ErrorMessage{Id: 1, Format: text, ShowUser: true}}})
}

// print shows text in the editor's console.
func (s *session) print(category, text string) {
	s.send(&dap.OutputEvent{Event: event("output"), Body: dap.OutputEventBody{Category: category, Output: text}})
}

// handle does one request. end tells that it was the last.
func (s *session) handle(m dap.RequestMessage) (end bool) {
	switch r := m.(type) {
	case *dap.InitializeRequest:
		s.initialize(r)
	case *dap.LaunchRequest:
		s.prepare(r)
	case *dap.SetBreakpointsRequest:
		s.setBreakpoints(r)
	case *dap.SetExceptionBreakpointsRequest:
		s.catching = slices.Contains(r.Arguments.Filters, failureFilter)
		s.send(&dap.SetExceptionBreakpointsResponse{Response: answer(r)})
	case *dap.ConfigurationDoneRequest:
		s.send(&dap.ConfigurationDoneResponse{Response: answer(r)})
		s.begin()
	case *dap.ThreadsRequest:
		s.send(&dap.ThreadsResponse{Response: answer(r), Body: dap.ThreadsResponseBody{Threads: []dap.Thread{{Id: thread, Name: "build"}}}})
	case *dap.StackTraceRequest:
		s.stackTrace(r)
	case *dap.ScopesRequest:
		s.scopes(r)
	case *dap.VariablesRequest:
		s.variables(r)
	case *dap.EvaluateRequest:
		s.running.Go(func() { s.evaluate(r) })
	case *dap.ExceptionInfoRequest:
		s.exceptionInfo(r)
	case *dap.DisconnectRequest:
		s.cancel()
		s.running.Wait()
		s.send(&dap.DisconnectResponse{Response: answer(r)})
		return true
	case *dap.TerminateRequest:
		s.cancel()
		s.send(&dap.TerminateResponse{Response: answer(r)})
	default:
		s.move(m)
	}
	return false
}

func (s *session) initialize(r *dap.InitializeRequest) {
	s.send(&dap.InitializeResponse{Response: answer(r), Body: dap.Capabilities{
		SupportsConfigurationDoneRequest: true, SupportsStepBack: true, SupportsExceptionInfoRequest: true, SupportsTerminateRequest: true,
		SupportsEvaluateForHovers: false,
		ExceptionBreakpointFilters: []dap.ExceptionBreakpointsFilter{{
			Filter: failureFilter, Label: "Failed instructions", Description: "Stop in the step that fails", Default: true,
		}},
	}})
}

// prepare takes what is to be built. It is started once the editor has set its
// breakpoints.
func (s *session) prepare(r *dap.LaunchRequest) {
	args := &launchArguments{}
	if err := json.Unmarshal(r.Arguments, args); err != nil {
		s.refuse(r, fmt.Errorf("launch: %w", err))
		return
	}
	if s.launch != nil {
		s.refuse(r, errors.New("launch: there is a build already"))
		return
	}
	if args.ContextPath == "" {
		args.ContextPath = "."
		if args.Dockerfile != "" {
			args.ContextPath = filepath.Dir(args.Dockerfile)
		}
	}
	if args.Dockerfile != "" && !filepath.IsAbs(args.Dockerfile) {
		// As an editor writes it, in relation to the context.
		if abs, err := filepath.Abs(filepath.Join(args.ContextPath, args.Dockerfile)); err == nil {
			args.Dockerfile = abs
		}
	}
	s.launch = args
	s.send(&dap.LaunchResponse{Response: answer(r)})
	s.send(&dap.InitializedEvent{Event: event("initialized")})
}

// begin starts the build.
func (s *session) begin() {
	if s.launch == nil || s.started {
		return
	}
	s.started = true
	in := images.Input{
		Context: s.launch.ContextPath, Dockerfile: s.launch.Dockerfile, Target: s.launch.Target, Platform: s.launch.Platform,
		Args: s.launch.Args, Tags: s.launch.Tags, NoCache: s.launch.NoCache, Pull: s.launch.Pull,
	}
	s.running.Go(func() {
		err := s.build(in)
		code := 0
		if err != nil && s.ctx.Err() == nil {
			code = 1
			if e, ok := errors.AsType[*jsonstream.Error](err); ok && e.Code > 0 {
				code = e.Code
			}
			s.print("stderr", err.Error()+"\n")
		}
		s.send(&dap.ExitedEvent{Event: event("exited"), Body: dap.ExitedEventBody{ExitCode: code}})
		s.send(&dap.TerminatedEvent{Event: event("terminated")})
	})
}

func (s *session) build(in images.Input) error {
	source, options, file, err := in.Open(s.ctx, s.a)
	if err != nil {
		return err
	}
	defer source.Close()
	c, err := s.a.Client()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.c, s.file = c, file
	o := client.BuildDebugOptions{Build: options, Step: s.launch.StopOnEntry}
	if !s.launch.NoDebug {
		o.Lines = slices.Clone(s.lines)
	}
	s.mu.Unlock()
	return c.BuildDebug(s.ctx, source, o, func(m jsonstream.Message, e *api.BuildDebugEvent) {
		switch {
		case e != nil:
			s.heard(e)
		case m.Stream != "":
			s.print("stdout", m.Stream)
		}
	})
}

// heard takes what the build tells of itself.
func (s *session) heard(e *api.BuildDebugEvent) {
	s.mu.Lock()
	first := s.id == ""
	s.id, s.stop = e.Session, e.Stop
	s.handles.reset()
	reverse := s.reverse
	lines := slices.Clone(s.lines)
	s.mu.Unlock()
	if first {
		// Not here, where the daemon's next words are waited for.
		s.running.Go(func() { s.verify(lines) })
	}
	if e.Stop == nil {
		return
	}
	failed := e.Stop.Reason == api.BuildStopFailure
	if failed && (!s.catching || s.launch.NoDebug) {
		s.running.Go(func() { _ = s.command(api.BuildCommand{Verb: api.BuildQuit}) })
		return
	}
	if reverse && e.Stop.Index > 1 && !slices.ContainsFunc(lines, func(l int) bool { return l >= e.Stop.Line && l <= e.Stop.End }) {
		s.running.Go(func() {
			if s.command(api.BuildCommand{Verb: api.BuildBack}) != nil { // there is nothing before
				s.stopped(e.Stop)
			}
		})
		return
	}
	s.stopped(e.Stop)
}

// stopped tells the editor that the build has stopped.
func (s *session) stopped(stop *api.BuildStop) {
	s.mu.Lock()
	s.reverse = false
	s.mu.Unlock()
	body := dap.StoppedEventBody{ThreadId: thread, AllThreadsStopped: true, Reason: stop.Reason}
	if stop.Reason == api.BuildStopFailure {
		body.Reason, body.Text = "exception", why(stop)
		body.Description = "Instruction failed"
		if stop.Live {
			s.print("console", "Expressions are run in the step that failed. Continue does it again with the files as they are then; \":help\" tells what else there is.\n")
		}
	}
	s.send(&dap.StoppedEvent{Event: event("stopped"), Body: body})
}

// why is one line about a failure.
func why(stop *api.BuildStop) string {
	switch {
	case stop.Cause != "":
		return stop.Cause
	case stop.Error != "":
		return stop.Error
	}
	return fmt.Sprintf("exit code %d", stop.Exit)
}

// at is where the build has stopped; nil if it has not.
func (s *session) at() *api.BuildStop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// command tells the build what to do.
func (s *session) command(c api.BuildCommand) error {
	_, err := s.ask(c)
	return err
}

func (s *session) ask(c api.BuildCommand) (api.BuildAnswer, error) {
	s.mu.Lock()
	cl, id := s.c, s.id
	s.mu.Unlock()
	if cl == nil || id == "" {
		return api.BuildAnswer{}, errors.New("the build has not begun")
	}
	return cl.BuildCommand(s.ctx, id, c)
}
