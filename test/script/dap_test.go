package script

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"
)

// An editor speaks DAP with the real program.
type editor struct {
	t   *testing.T
	w   io.Writer
	seq int
	in  chan dap.Message
}

// openEditor speaks by r and w.
func openEditor(t *testing.T, r io.Reader, w io.Writer) *editor {
	e := &editor{t: t, w: w, in: make(chan dap.Message, 1000)}
	go func() {
		defer close(e.in)
		for br := bufio.NewReader(r); ; {
			m, err := dap.ReadProtocolMessage(br)
			if err != nil {
				return
			}
			e.in <- m
		}
	}()
	return e
}

// startDAP starts the program on pipes.
func startDAP(t *testing.T, args ...string) (stdin io.WriteCloser, stdout io.Reader) {
	t.Helper()
	return startAdapter(t, exec.Command(daemon.Program("porthole"), append([]string{"dap"}, args...)...), len(args) > 0)
}

// startAdapter starts a program that speaks DAP. One that listens does not end
// with its editor.
func startAdapter(t *testing.T, cmd *exec.Cmd, listens bool) (stdin io.WriteCloser, stdout io.Reader) {
	t.Helper()
	cmd.Env = append(append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "HOME="+t.TempDir()), cmd.Env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		if listens {
			_ = cmd.Process.Signal(os.Interrupt)
		}
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("%s does not end with its editor", cmd)
		}
	})
	return stdin, stdout
}

// ask sends a request and returns the answer, with the events that came before.
func (e *editor) ask(command string, arguments any) (response dap.Message, before []dap.Message) {
	e.t.Helper()
	e.seq++
	request := map[string]any{"seq": e.seq, "type": "request", "command": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := dap.WriteBaseMessage(e.w, text); err != nil {
		e.t.Fatal(err)
	}
	for {
		m := e.next()
		if r, ok := m.(dap.ResponseMessage); ok && r.GetResponse().RequestSeq == e.seq {
			if failed, isError := m.(*dap.ErrorResponse); isError {
				e.t.Fatalf("%s: %s", command, failed.Body.Error.Format)
			}
			return m, before
		}
		before = append(before, m)
	}
}

func (e *editor) next() dap.Message {
	e.t.Helper()
	select {
	case m, ok := <-e.in:
		if !ok {
			e.t.Fatal("the program has gone")
		}
		return m
	case <-time.After(30 * time.Second):
		e.t.Fatal("nothing comes from the program")
	}
	return nil
}

// until waits for an event, which may have come already.
func until[T dap.Message](e *editor, before []dap.Message, found func(T) bool) T {
	e.t.Helper()
	for {
		var m dap.Message
		if len(before) > 0 {
			m, before = before[0], before[1:]
		} else {
			m = e.next()
		}
		if event, ok := m.(T); ok && found(event) {
			return event
		}
	}
}

func stopAt(e *editor, before []dap.Message, reason string) (line int) {
	e.t.Helper()
	until(e, before, func(s *dap.StoppedEvent) bool {
		if s.Body.Reason != reason {
			e.t.Errorf("stopped for %q, want %q", s.Body.Reason, reason)
		}
		return true
	})
	m, _ := e.ask("stackTrace", map[string]any{"threadId": 1})
	frames := m.(*dap.StackTraceResponse).Body.StackFrames
	if len(frames) != 1 {
		e.t.Fatalf("%d frames", len(frames))
	}
	return frames[0].Line
}

// scope finds the variables of a scope.
func (e *editor) scope(name string) map[string]dap.Variable {
	e.t.Helper()
	m, _ := e.ask("scopes", map[string]any{"frameId": 1})
	for _, s := range m.(*dap.ScopesResponse).Body.Scopes {
		if s.Name == name {
			return e.variables(s.VariablesReference)
		}
	}
	e.t.Fatalf("no scope %q", name)
	return nil
}

func (e *editor) variables(ref int) map[string]dap.Variable {
	e.t.Helper()
	m, _ := e.ask("variables", map[string]any{"variablesReference": ref})
	out := map[string]dap.Variable{}
	for _, v := range m.(*dap.VariablesResponse).Body.Variables {
		out[v.Name] = v
	}
	return out
}

func (e *editor) evaluate(text string) (result string, events []dap.Message) {
	e.t.Helper()
	m, events := e.ask("evaluate", map[string]any{"expression": text, "context": "repl"})
	return m.(*dap.EvaluateResponse).Body.Result, events
}

// launch launches a build that stops at lines.
func (e *editor) launch(dir string, settings map[string]any, lines ...int) (events []dap.Message) {
	e.t.Helper()
	e.ask("initialize", map[string]any{"adapterID": "porthole", "linesStartAt1": true})
	settings["contextPath"] = dir
	_, events = e.ask("launch", settings)
	until(e, events, func(*dap.InitializedEvent) bool { return true })
	var breaks []map[string]int
	for _, l := range lines {
		breaks = append(breaks, map[string]int{"line": l})
	}
	e.ask("setBreakpoints", map[string]any{"source": map[string]string{"path": filepath.Join(dir, "Dockerfile")}, "breakpoints": breaks})
	e.ask("setExceptionBreakpoints", map[string]any{"filters": []string{"failure"}})
	_, events = e.ask("configurationDone", nil)
	return events
}

// An editor builds, stops at a line and at a failure, looks at variables and
// files, runs commands in the step, goes back, mends and ends.
func TestDAP(t *testing.T) {
	begin(t)
	dir := buildDir(t, failing)
	stdin, stdout := startDAP(t)
	e := openEditor(t, stdout, stdin)
	events := e.launch(dir, map[string]any{"tags": []string{"edited"}, "args": map[string]string{"GIVEN": "arg"}, "stopOnEntry": true}, 3)
	if line := stopAt(e, events, "step"); line != 1 {
		t.Errorf("at entry: line %d", line)
	}
	_, events = e.ask("next", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "step"); line != 2 {
		t.Errorf("after a step: line %d", line)
	}
	_, events = e.ask("continue", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "breakpoint"); line != 3 {
		t.Errorf("breakpoint: line %d", line)
	}
	if got := e.scope("Environment")["WHO"].Value; got != "me" {
		t.Errorf("WHO is %q", got)
	}
	if got := e.scope("Arguments")["GIVEN"].Value; got != "arg" {
		t.Errorf("GIVEN is %q", got)
	}
	_, events = e.ask("continue", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "exception"); line != 4 {
		t.Errorf("failure: line %d", line)
	}
	m, _ := e.ask("exceptionInfo", map[string]any{"threadId": 1})
	if got := m.(*dap.ExceptionInfoResponse).Body.Description; !strings.Contains(got, "test -f /fixed: exit code 1") {
		t.Errorf("the failure is %q", got)
	}
	files := e.scope("Files")
	if one := files["one"]; one.VariablesReference == 0 || e.variables(one.VariablesReference)["text"].Value != "one\n" {
		t.Errorf("files: %v", files)
	}
	if cache := e.scope("Mounts")["/c"]; cache.VariablesReference == 0 || e.variables(cache.VariablesReference)["x"].Name != "x" {
		t.Errorf("mount: %v", cache)
	}
	if got, _ := e.evaluate("echo $WHO; cat /c/x; exit 3"); got != "me\nkept\nexit code 3" {
		t.Errorf("evaluated: %q", got)
	}
	_, events = e.ask("stepBack", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "breakpoint"); line != 3 {
		t.Errorf("back: line %d", line)
	}
	_, events = e.evaluate(":edit RUN echo uno >/one")
	if line := stopAt(e, events, "breakpoint"); line != 3 {
		t.Errorf("edited: line %d", line)
	}
	_, events = e.ask("continue", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "exception"); line != 4 {
		t.Errorf("the failure again: line %d", line)
	}
	e.evaluate("touch /fixed")
	_, events = e.ask("continue", map[string]any{"threadId": 1})
	exit := until(e, events, func(*dap.ExitedEvent) bool { return true })
	until(e, nil, func(*dap.TerminatedEvent) bool { return true })
	if exit.Body.ExitCode != 0 {
		t.Errorf("ended with %d", exit.Body.ExitCode)
	}
	e.ask("disconnect", nil)
	if out := porthole(t, "run", "--rm", "edited", "cat", "/one", "/two"); out != "uno\ntwo" {
		t.Errorf("in the image: %q", out)
	}
	porthole(t, "rmi", "edited")
}

// By TCP: without a filter a failure ends the build, with its code. An editor
// that goes away ends its build.
func TestDAPListens(t *testing.T) {
	begin(t)
	dir := buildDir(t, "FROM busybox\nRUN echo first\nRUN exit 7\n")
	_, stdout := startDAP(t, "--listen", "127.0.0.1:0")
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "DAP server listening at: ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", line, err)
	}
	dial := func() net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	conn := dial()
	e := openEditor(t, conn, conn)
	e.ask("initialize", map[string]any{"adapterID": "porthole"})
	e.ask("launch", map[string]any{"contextPath": dir})
	e.ask("setExceptionBreakpoints", map[string]any{"filters": []string{}})
	_, events := e.ask("configurationDone", nil)
	if exit := until(e, events, func(*dap.ExitedEvent) bool { return true }); exit.Body.ExitCode == 0 {
		t.Error("a build that fails ends with 0")
	}
	conn = dial()
	e = openEditor(t, conn, conn)
	if line := stopAt(e, e.launch(dir, map[string]any{}, 2), "breakpoint"); line != 2 {
		t.Errorf("line %d", line)
	}
	_ = conn.Close() // begin checks that nothing is left of the build
}

// The adapter of buildx, which editors with Docker's extension start, works with
// this daemon: breakpoints, steps, and the stop at a failure.
func TestBuildxDAP(t *testing.T) {
	begin(t)
	program, err := buildxProgram()
	if err != nil {
		t.Fatalf("docker buildx (make buildx): %v", err)
	}
	dir := buildDir(t, failing)
	cmd := exec.Command(program, "dap", "build")
	cmd.Env = []string{"BUILDX_EXPERIMENTAL=1", "DOCKER_CONFIG=" + t.TempDir()}
	stdin, stdout := startAdapter(t, cmd, false)
	e := openEditor(t, stdout, stdin)
	e.ask("initialize", map[string]any{"adapterID": "dockerfile", "linesStartAt1": true})
	_, events := e.ask("launch", map[string]any{"contextPath": dir, "dockerfile": filepath.Join(dir, "Dockerfile")})
	until(e, events, func(*dap.InitializedEvent) bool { return true })
	e.ask("setBreakpoints", map[string]any{
		"source": map[string]string{"path": filepath.Join(dir, "Dockerfile")}, "breakpoints": []map[string]int{{"line": 3}},
	})
	_, events = e.ask("configurationDone", nil)
	if line := stopAt(e, events, "breakpoint"); line != 3 {
		t.Errorf("breakpoint: line %d", line)
	}
	_, events = e.ask("next", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "step"); line != 5 { // the last of its lines, as buildx has it
		t.Errorf("after a step: line %d", line)
	}
	_, events = e.ask("continue", map[string]any{"threadId": 1})
	if line := stopAt(e, events, "exception"); line != 5 {
		t.Errorf("failure: line %d", line)
	}
	e.ask("disconnect", nil)
	_ = cmd.Process.Kill() // it stays, with the build that has failed
}
