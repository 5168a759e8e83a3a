package dap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-dap"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// setBreakpoints takes the breakpoints of a file. Those of another than the one
// that is built are none: editors send those of all that they know.
func (s *session) setBreakpoints(r *dap.SetBreakpointsRequest) {
	var lines []int
	for _, b := range r.Arguments.Breakpoints {
		lines = append(lines, b.Line)
	}
	if len(r.Arguments.Breakpoints) == 0 {
		lines = append(lines, r.Arguments.Lines...)
	}
	if file := r.Arguments.Source.Path; file != "" && s.launch != nil && !sameFile(file, s.dockerfile()) {
		body := dap.SetBreakpointsResponseBody{Breakpoints: []dap.Breakpoint{}}
		for i, l := range lines {
			body.Breakpoints = append(body.Breakpoints, dap.Breakpoint{Id: otherFile + i, Line: l, Message: "this file is not the one that is built"})
		}
		s.send(&dap.SetBreakpointsResponse{Response: answer(r), Body: body})
		return
	}
	s.mu.Lock()
	s.lines = lines
	begun := s.id != ""
	s.mu.Unlock()
	body := dap.SetBreakpointsResponseBody{Breakpoints: []dap.Breakpoint{}}
	var found []int
	if begun {
		a, err := s.ask(api.BuildCommand{Verb: api.BuildBreaks, Lines: lines})
		if err != nil {
			s.refuse(r, err)
			return
		}
		found = a.Lines
	}
	for i, l := range lines {
		body.Breakpoints = append(body.Breakpoints, breakpoint(i, l, found))
	}
	s.send(&dap.SetBreakpointsResponse{Response: answer(r), Body: body})
}

// otherFile is from where breakpoints are numbered that are not in the Dockerfile.
const otherFile = 1 << 20

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// dockerfile is the path of the one that the editor has launched.
func (s *session) dockerfile() string {
	file := s.launch.Dockerfile
	if file == "" {
		file = filepath.Join(s.launch.ContextPath, "Dockerfile")
	}
	if abs, err := filepath.Abs(file); err == nil {
		return abs
	}
	return file
}

// breakpoint is what an editor shows of one. It is verified once the build knows
// in which instruction it is.
func breakpoint(i, line int, found []int) dap.Breakpoint {
	b := dap.Breakpoint{Id: i + 1, Line: line}
	switch {
	case i >= len(found):
		b.Message = "the build has not begun"
	case found[i] == 0:
		b.Message = "no instruction is done there"
	default:
		b.Verified, b.Line = true, found[i]
	}
	return b
}

// verify tells the editor where its breakpoints are, once the build has begun.
func (s *session) verify(lines []int) {
	a, err := s.ask(api.BuildCommand{Verb: api.BuildBreaks, Lines: lines})
	if err != nil {
		return // the build has ended, which is told otherwise
	}
	for i, l := range lines {
		s.send(&dap.BreakpointEvent{Event: event("breakpoint"), Body: dap.BreakpointEventBody{
			Reason: "changed", Breakpoint: breakpoint(i, l, a.Lines),
		}})
	}
}

// move makes the build go on.
func (s *session) move(m dap.RequestMessage) {
	stop := s.at()
	// A failed instruction is not taken for done by going on: it is done again.
	onward := func(verb string) api.BuildCommand {
		if stop != nil && stop.Reason == api.BuildStopFailure {
			verb = api.BuildRetry
		}
		return api.BuildCommand{Verb: verb}
	}
	do := func(c api.BuildCommand, ok dap.ResponseMessage) {
		*ok.GetResponse() = answer(m)
		if err := s.command(c); err != nil {
			s.refuse(m, err)
			return
		}
		s.send(ok)
	}
	switch m.(type) {
	case *dap.ContinueRequest:
		ok := &dap.ContinueResponse{Body: dap.ContinueResponseBody{AllThreadsContinued: true}}
		do(onward(api.BuildContinue), ok)
	case *dap.NextRequest:
		do(onward(api.BuildNext), &dap.NextResponse{})
	case *dap.StepInRequest:
		do(onward(api.BuildNext), &dap.StepInResponse{})
	case *dap.StepOutRequest:
		do(onward(api.BuildContinue), &dap.StepOutResponse{})
	case *dap.StepBackRequest:
		do(api.BuildCommand{Verb: api.BuildBack}, &dap.StepBackResponse{})
	case *dap.ReverseContinueRequest:
		s.mu.Lock()
		s.reverse = true
		s.mu.Unlock()
		do(api.BuildCommand{Verb: api.BuildBack}, &dap.ReverseContinueResponse{})
	case *dap.PauseRequest:
		s.refuse(m, errors.New("a step that runs cannot be paused: set a breakpoint, or stop the build"))
	default:
		s.refuse(m, fmt.Errorf("%s is not supported", m.GetRequest().Command))
	}
}

// stackTrace tells the instruction where the build has stopped.
func (s *session) stackTrace(r *dap.StackTraceRequest) {
	body := dap.StackTraceResponseBody{StackFrames: []dap.StackFrame{}}
	if stop := s.at(); stop != nil {
		name, _, _ := strings.Cut(stop.Instruction, "\n")
		body.StackFrames = append(body.StackFrames, dap.StackFrame{
			Id: 1, Name: name, Line: stop.Line, EndLine: stop.End, Column: 1,
			Source: &dap.Source{Name: path.Base(stop.File), Path: s.file},
		})
		body.TotalFrames = 1
	}
	s.send(&dap.StackTraceResponse{Response: answer(r), Body: body})
}

func (s *session) exceptionInfo(r *dap.ExceptionInfoRequest) {
	stop := s.at()
	if stop == nil || stop.Reason != api.BuildStopFailure {
		s.refuse(r, errors.New("no instruction has failed"))
		return
	}
	s.send(&dap.ExceptionInfoResponse{Response: answer(r), Body: dap.ExceptionInfoResponseBody{
		ExceptionId: failureFilter, Description: why(stop), BreakMode: "always",
	}})
}

// A handle is what a reference to variables stands for: a list, or a directory
// that is read when it is opened. They are of one stop.
type handle struct {
	list []dap.Variable
	path string
}

type handles struct{ list []handle }

func (h *handles) reset() { h.list = nil }

// add returns a reference. They are from 1.
func (h *handles) add(one handle) int {
	h.list = append(h.list, one)
	return len(h.list)
}

func (h *handles) get(ref int) (handle, bool) {
	if ref < 1 || ref > len(h.list) {
		return handle{}, false
	}
	return h.list[ref-1], true
}

// scopes are what there is to look at.
func (s *session) scopes(r *dap.ScopesRequest) {
	stop := s.at()
	if stop == nil {
		s.refuse(r, errors.New("the build has not stopped"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body := dap.ScopesResponseBody{Scopes: []dap.Scope{}}
	add := func(name string, h handle) {
		body.Scopes = append(body.Scopes, dap.Scope{Name: name, VariablesReference: s.handles.add(h)})
	}
	user := stop.User
	if user == "" {
		user = "root"
	}
	step := []dap.Variable{{Name: "instruction", Value: stop.Instruction}, {Name: "user", Value: user}, {Name: "workdir", Value: stop.Cwd}}
	if stop.Reason == api.BuildStopFailure {
		step = append(step, dap.Variable{Name: "failure", Value: why(stop)})
	}
	var mounts []dap.Variable
	for _, m := range stop.Mounts {
		mode := "ro"
		if m.RW {
			mode = "rw"
		}
		mounts = append(mounts, dap.Variable{Name: m.Destination, Value: m.Type + ", " + mode, VariablesReference: s.handles.add(handle{path: m.Destination})})
	}
	add("Step", handle{list: step})
	if len(mounts) > 0 {
		add("Mounts", handle{list: mounts})
	}
	var args, env []dap.Variable
	for key, value := range stop.Args {
		args = append(args, dap.Variable{Name: key, Value: value})
	}
	slices.SortFunc(args, func(a, b dap.Variable) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range stop.Env {
		key, value, _ := strings.Cut(e, "=")
		env = append(env, dap.Variable{Name: key, Value: value})
	}
	add("Arguments", handle{list: args})
	add("Environment", handle{list: env})
	add("Files", handle{path: "/"})
	s.send(&dap.ScopesResponse{Response: answer(r), Body: body})
}

func (s *session) variables(r *dap.VariablesRequest) {
	s.mu.Lock()
	h, ok := s.handles.get(r.Arguments.VariablesReference)
	s.mu.Unlock()
	if !ok {
		s.refuse(r, errors.New("the build has gone on since"))
		return
	}
	if h.path != "" {
		var err error
		if h.list, err = s.directory(h.path); err != nil {
			s.refuse(r, err)
			return
		}
	}
	if h.list == nil {
		h.list = []dap.Variable{}
	}
	s.send(&dap.VariablesResponse{Response: answer(r), Body: dap.VariablesResponseBody{Variables: h.list}})
}

// directory lists the files of a directory; the text of a file is one entry.
func (s *session) directory(dir string) ([]dap.Variable, error) {
	a, err := s.ask(api.BuildCommand{Verb: api.BuildFiles, Path: dir})
	if err != nil {
		return nil, err
	}
	if a.Files == nil {
		return []dap.Variable{{Name: "text", Value: a.Text}}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []dap.Variable
	for _, f := range a.Files {
		v := dap.Variable{Name: f.Name, Value: fmt.Sprintf("%s %d:%d, %d bytes", f.Mode, f.UID, f.GID, f.Size)}
		switch f.Mode[:min(1, len(f.Mode))] {
		case "d", "-":
			v.VariablesReference = s.handles.add(handle{path: path.Join(dir, f.Name)})
		}
		if f.Link != "" {
			v.Value += " -> " + f.Link
		}
		list = append(list, v)
	}
	return list, nil
}

// evaluationHelp is told for ":help".
const evaluationHelp = `COMMAND         run it in the step, by its shell
:retry          do the failed instruction again, with the files as they are
:clean          do it again with the files from before it
:accept         take it as done, with the files as they are
:edit TEXT      put another instruction in its place, and do that
`

// evaluate runs a command in the step, or one of ours.
func (s *session) evaluate(r *dap.EvaluateRequest) {
	text := strings.TrimSpace(r.Arguments.Expression)
	result, err := "", error(nil)
	name, rest, _ := strings.Cut(text, " ")
	switch name {
	case ":help":
		result = evaluationHelp
	case ":retry":
		err = s.command(api.BuildCommand{Verb: api.BuildRetry})
	case ":clean":
		err = s.command(api.BuildCommand{Verb: api.BuildRetry, Clean: true})
	case ":accept":
		err = s.command(api.BuildCommand{Verb: api.BuildContinue})
	case ":edit":
		err = s.command(api.BuildCommand{Verb: api.BuildEdit, Text: rest})
	default:
		if r.Arguments.Context == "hover" {
			err = errors.New("nothing is run by looking at it")
		} else {
			result, err = s.runInStep(text)
		}
	}
	if err != nil {
		s.refuse(r, err)
		return
	}
	if strings.HasPrefix(name, ":") && name != ":help" {
		s.send(&dap.ContinuedEvent{Event: event("continued"), Body: dap.ContinuedEventBody{ThreadId: thread, AllThreadsContinued: true}})
	}
	s.send(&dap.EvaluateResponse{Response: answer(r), Body: dap.EvaluateResponseBody{Result: result}})
}

// runInStep runs a command and returns what it printed and, unless 0, its exit
// code.
func (s *session) runInStep(line string) (string, error) {
	s.mu.Lock()
	c, id := s.c, s.id
	s.mu.Unlock()
	if c == nil || id == "" {
		return "", errors.New("the build has not begun")
	}
	stream, err := c.BuildExec(s.ctx, id, api.BuildExec{Command: []string{"/bin/sh", "-c", line}})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	_ = stream.CloseWrite() // it has no input
	var out shownOutput
	if err := tty.Demux(&out, &out, stream); err != nil {
		return "", err
	}
	end, err := stream.End()
	if err != nil {
		return "", err
	}
	text := out.String()
	if end != nil && end.ExitCode != 0 {
		text += fmt.Sprintf("exit code %d\n", end.ExitCode)
	}
	return strings.TrimSuffix(text, "\n"), nil
}

// mostOutput is how much an editor is shown of what a command prints.
const mostOutput = 1 << 20

// shownOutput takes what a command prints, and keeps the beginning of it.
type shownOutput struct {
	kept bytes.Buffer
	more int64 // bytes that are not kept
}

func (o *shownOutput) Write(p []byte) (int, error) {
	keep := min(len(p), mostOutput-o.kept.Len())
	o.kept.Write(p[:keep])
	o.more += int64(len(p) - keep)
	return len(p), nil
}

// String is what was kept, and how much there was besides.
func (o *shownOutput) String() string {
	if o.more == 0 {
		return o.kept.String()
	}
	return fmt.Sprintf("%s\n%d bytes more were printed\n", o.kept.String(), o.more)
}
