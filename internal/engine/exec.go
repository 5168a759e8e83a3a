package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/detachkeys"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime"
)

// execKept is how long an exec that has ended can still be asked about.
const execKept = 5 * time.Minute

// execution is one process that was asked for by exec.
type execution struct {
	id  string
	c   *ctr
	req container.ExecCreateRequest

	mu        sync.Mutex
	started   bool
	proc      Process // nil until it runs
	startedAt time.Time
	ended     bool
	code      int
	endedAt   time.Time
	hint      string // what to try after a failure to execute it

	client        *event.Origin // who started it
	attached      bool          // a client is connected to its streams
	dieWithClient bool

	debug *debugging // nil: it is no session of debug
}

// execTable remembers the execs.
type execTable struct {
	mu   sync.Mutex
	byID map[string]*execution
}

func newExecTable() *execTable { return &execTable{byID: map[string]*execution{}} }

func (t *execTable) find(id string) (*execution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.byID[id]; x != nil {
		return x, nil
	}
	return nil, notFound("No such exec instance: %s", id)
}

func (t *execTable) add(x *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[x.id] = x
}

func (t *execTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// forget drops the execs of a container that is gone, but for those that ran: their clients are about to ask how they
// ended.
func (t *execTable) forget(container string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.byID, func(_ string, x *execution) bool { return x.c.id == container && x.unstarted() })
}

func (x *execution) unstarted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.started
}

func (t *execTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// sweep drops execs that have ended long ago, and sessions of debug that nobody has started: no end of a container, which
// they may not have, would drop these.
func (t *execTable) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.byID, func(_ string, x *execution) bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.ended && now.Sub(x.endedAt) > execKept || x.debug != nil && !x.started && now.Sub(x.debug.asked) > execKept
	})
}

func (e *Engine) sweepExecs() {
	tick := time.NewTicker(execKept / 5)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			e.execs.sweep(now)
		case <-e.life.Done():
			return
		}
	}
}

// execTarget checks that a container can take one more process.
func execTarget(v *view, ref string) error {
	switch {
	case v.status() == container.StatePaused:
		return refusedWhilePaused(ref)
	case v.status() == container.StateRestarting:
		return errRestarting(v.ID)
	case v.status() != container.StateRunning || v.task == nil:
		return errNoTask(v)
	}
	return nil
}

// ContainerExecCreate prepares one more process in a running container, or a step of a build that runs.
func (e *Engine) ContainerExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	c, done, err := e.operateOn(ctx, "exec create", ref, e.lookUp)
	if err != nil {
		return "", err
	}
	defer done()
	if len(req.Cmd) == 0 {
		return "", invalid("No exec command specified")
	}
	if _, err := detachkeys.Parse(req.DetachKeys); err != nil {
		return "", invalid("Invalid escape keys (%s) provided", req.DetachKeys)
	}
	v := c.view()
	if err := execTarget(v, ref); err != nil {
		return "", err
	}
	e.expectExec(v)
	x := &execution{id: randomID(), c: c, req: req}
	e.execs.add(x)
	e.emitExec(ctx, x, events.ActionExecCreate)
	return x.id, nil
}

// emitExec publishes exec_create or exec_start, whose action carries the command.
func (e *Engine) emitExec(ctx context.Context, x *execution, action events.Action) {
	full := events.Action(string(action) + ": " + x.req.Cmd[0] + " " + strings.Join(x.req.Cmd[1:], " "))
	extra := map[string]string{"execID": x.id}
	if x.req.Privileged {
		extra[dangerousKey] = "--privileged"
	}
	e.emitAbout(ctx, x, full, extra)
}

// emitAbout publishes an event about an exec.
func (e *Engine) emitAbout(ctx context.Context, x *execution, action events.Action, extra map[string]string) {
	if x.debug == nil {
		e.emitOn(ctx, x.c, action, extra)
	} else if about := x.debug.subject; about != nil {
		e.emit(ctx, about, action, extra)
	}
}

// ContainerExecStart runs a prepared exec. Without Detach it calls open once all checks have passed, copies the streams
// and returns when the process has ended, or the client detached. A failure after open is written to the stream, as
// Docker does, and not returned.
func (e *Engine) ContainerExecStart(ctx context.Context, execID string, o ExecStartOptions, open func() (Stream, error)) error {
	x, err := e.execs.find(execID)
	if err != nil {
		return err
	}
	v := x.c.view()
	if x.debug != nil {
		err = x.debug.startable(v, o)
	} else {
		err = execTarget(v, v.Name)
	}
	if err != nil {
		return err
	}
	if err := x.claim(); err != nil {
		return err
	}
	if o.Detach {
		return e.runDetached(ctx, x, v, o)
	}
	conn, err := open()
	if err != nil {
		x.finish(exitNotExecutable)
		return err
	}
	defer conn.Close()
	if err := e.runAttached(ctx, x, v, o, conn); err != nil {
		w := newFrameWriter(conn, x.req.Tty)
		_ = w.write(byte(Stdout), []byte(err.Error()+"\r\n"))
		_ = conn.CloseWrite()
	}
	return nil
}

// claim makes the caller the one who starts the exec.
func (x *execution) claim() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ended:
		return conflict("exec command %s has already run", x.id)
	case x.started:
		return conflict("exec command %s is already running", x.id)
	}
	x.started = true
	return nil
}

// finish notes the end of an exec.
func (x *execution) finish(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended, x.code, x.endedAt = true, code, time.Now()
}

func (e *Engine) runDetached(ctx context.Context, x *execution, v *view, o ExecStartOptions) error {
	p, err := e.startExec(ctx, x, v, o, nil)
	if err != nil {
		return err
	}
	p.discard()
	return nil
}

func (e *Engine) runAttached(ctx context.Context, x *execution, v *view, o ExecStartOptions, conn Stream) error {
	keys, err := detachkeys.Parse(x.req.DetachKeys)
	if err != nil {
		return err
	}
	if x.debug != nil {
		keys = nil // it ends with its client: there is nothing to detach from
	}
	p, err := e.startExec(ctx, x, v, o, conn)
	if err != nil {
		return err
	}
	input := make(chan error, 1)
	if p.stdin != nil {
		go func() { input <- p.copyInput(conn, keys, x.req.Tty) }()
	} else {
		input <- nil
	}
	x.setAttached(true)
	left := p.await(ctx, e.life, conn, input, func() { e.emitOn(ctx, x.c, events.ActionExecDetach, map[string]string{"execID": x.id}) })
	x.setAttached(false)
	if left {
		e.clientGone(x)
	}
	return nil
}

func (x *execution) endsWithClient() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dieWithClient
}

func (x *execution) setAttached(is bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.attached = is
}

// execStreams are our ends of an exec's standard streams.
type execStreams struct {
	stdin   *os.File // what the client types goes here; nil: nothing. With a terminal it is also the output
	tty     bool
	out     *frameWriter
	drained chan struct{} // closed when the process has ended and its output was passed on
}

// startExec starts the process of x. Its output goes to conn, or nowhere if that is nil.
func (e *Engine) startExec(ctx context.Context, x *execution, v *view, o ExecStartOptions, conn io.Writer) (s *execStreams, err error) {
	req := x.req
	defer func() {
		if err != nil {
			err = execFailure(err)
			err = hinted(err, e.diagnoseExec(v, req, err))
			x.mu.Lock()
			x.hint = cmp.Or(problem.Hint(err), problem.ScarceHint(err.Error()))
			x.mu.Unlock()
			x.finish(exitCodeOf(err))
		}
	}()
	if o.ConsoleSize != [2]uint{} {
		req.ConsoleSize = &o.ConsoleSize
	}
	if x.debug != nil {
		opened, openErr := e.openDebug(ctx, x)
		if openErr != nil {
			return nil, openErr
		}
		v = opened
		defer func() {
			if err != nil {
				e.closeDebug(ctx, x)
			}
		}()
	}
	process, err := e.execProcess(v, req)
	if err != nil {
		return nil, err
	}
	pipes, err := newPipes(req, conn != nil)
	if err != nil {
		return nil, err
	}
	defer pipes.closeTheirs()
	options := runtime.ExecOptions{ID: x.id, Process: process, GroupAdd: v.HostConfig.GroupAdd, Stdin: pipes.theirs[0], Stdout: pipes.theirs[1], Stderr: pipes.theirs[2]}
	options.Note = execNote{
		Request: x.req, Started: time.Now(), Client: event.OriginOf(ctx), DieWithClient: x.endsWithClient(), Debug: x.debug != nil,
	}.encode()
	if x.debug != nil {
		x.debug.shape(&options)
	}
	if req.Tty && req.ConsoleSize != nil {
		options.Size = [2]uint16{uint16(req.ConsoleSize[0]), uint16(req.ConsoleSize[1])}
	}
	// The process belongs to the container and not to the request.
	ctx = context.WithoutCancel(ctx)
	defer e.begin(ctx, "exec start", x.c)()
	proc, err := v.task.Exec(ctx, options)
	if err == nil {
		if pty := proc.PTY(); pty != nil {
			pipes.pty = pty
			pipes.ours[0], err = pollableCopy(pty)
		}
	}
	if err != nil {
		pipes.closeOurs()
		return nil, err
	}
	// exec_start comes before whatever the process does, exec_die after it.
	x.mu.Lock()
	x.proc, x.startedAt, x.client = proc, time.Now(), event.OriginOf(ctx)
	x.mu.Unlock()
	e.emitExec(ctx, x, events.ActionExecStart)
	if err := proc.Start(ctx); err != nil {
		pipes.closeOurs()
		x.mu.Lock()
		x.proc = nil
		x.mu.Unlock()
		return nil, err
	}
	return e.follow(ctx, x, proc, pipes, conn), nil
}

// outputPatience is how long the news of an exec's end waits for a client that takes its output. One that does not read
// gets the rest when it does; to all others the process has ended. Docker has the same time.
const outputPatience = 2 * time.Second

// within waits for done, but no longer than d.
func within(done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// follow looks after a process that runs.
func (e *Engine) follow(ctx context.Context, x *execution, proc Process, p *pipes, conn io.Writer) *execStreams {
	x.c.update(func(v *view) { v.execs = append(slices.Clone(v.execs), x.id) })
	started := time.Now().UTC()
	s := &execStreams{stdin: p.ours[0], tty: x.req.Tty, drained: make(chan struct{})}
	if conn != nil {
		s.out = newFrameWriter(conn, x.req.Tty)
	}
	var outputs sync.WaitGroup
	ended := make(chan struct{})
	for stream, f := range map[StreamKind]*os.File{Stdout: p.ours[1], Stderr: p.ours[2]} {
		if f != nil {
			outputs.Go(func() { copyOutput(f, ended, s.writer(stream)) })
		}
	}
	if s.tty && s.stdin != nil {
		outputs.Go(func() { copyOutput(s.stdin, ended, s.writer(Stdout)) })
	}
	e.goWork(func() {
		defer close(s.drained)
		shutdown := false
		select {
		case <-proc.Done():
		case <-e.life.Done():
			shutdown = true // the process goes on without us; its pipes end with this daemon
		}
		close(ended)
		passed := make(chan struct{})
		go func() { outputs.Wait(); close(passed) }()
		if x.debug != nil { // what it has changed is told to those who see its end; nobody could go on with it
			if !shutdown {
				within(passed, outputPatience)
			}
			e.closeDebug(ctx, x)
		}
		if !shutdown {
			within(passed, outputPatience)
			e.noteExecEnd(behalf(event.OriginOf(ctx).Follows()), x, proc.Exit().Code)
			if x.debug == nil {
				e.goWork(func() { e.execEnded(ctx, x, proc, started) })
			}
		}
		<-passed
		s.closeStdin()
		p.pty.Close() // nil is fine
	})
	return s
}

func (s *execStreams) writer(stream StreamKind) func([]byte) {
	return func(p []byte) {
		if s.out != nil {
			_ = s.out.write(byte(stream), p) // a client that is gone does not stop the process
		}
	}
}

func (s *execStreams) closeStdin() {
	if s.stdin != nil && !s.tty { // a terminal is closed by its reader
		s.stdin.Close()
	}
}

// discard is for an exec without a client.
func (s *execStreams) discard() { s.closeStdin() }

// copyInput passes on what the client types, and its end unless there is a terminal.
func (s *execStreams) copyInput(conn io.Reader, keys []byte, tty bool) error {
	if tty && len(keys) == 0 {
		_, err := io.Copy(s.stdin, conn)
		return err
	}
	if tty {
		_, err := io.Copy(s.stdin, detachkeys.NewReader(conn, keys))
		return err
	}
	_, err := io.Copy(s.stdin, conn)
	s.stdin.Close()
	return err
}

// await returns when the process has ended and all was passed on, or the client is gone or has detached. It tells whether
// the client has left without a word, other than when this daemon ends.
func (s *execStreams) await(ctx, life context.Context, conn Stream, input <-chan error, detached func()) (left bool) {
	var gone goneWatch
	defer func() {
		if gone.stop != nil {
			gone.stop()
		}
	}()
	for {
		select {
		case <-s.drained:
			_ = conn.CloseWrite()
			return false
		case err := <-input:
			if errors.Is(err, detachkeys.ErrDetached) {
				detached()
				return false
			}
			input = nil
			gone = watchGone(conn, true)
		case <-gone.c:
			return true
		case <-ctx.Done():
			return errors.Is(context.Cause(ctx), context.Canceled) // any other cause is the end of the daemon
		case <-life.Done():
			return false
		}
	}
}

// pipes are the standard streams of an exec without a terminal; the ends are nil where nothing is connected.
type pipes struct {
	ours, theirs [3]*os.File
	pty          *os.File // by which the runtime sets the terminal's size; nil without one
}

func newPipes(req container.ExecCreateRequest, attached bool) (*pipes, error) {
	p := &pipes{}
	if req.Tty || !attached {
		return p, nil
	}
	for i, wanted := range []bool{req.AttachStdin, req.AttachStdout, req.AttachStderr} {
		if !wanted {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			p.closeTheirs()
			p.closeOurs()
			return nil, err
		}
		if i == 0 {
			p.theirs[i], p.ours[i] = r, w
		} else {
			p.ours[i], p.theirs[i] = r, w
		}
		// Programs expect reads and writes that block: Fd has that effect (see its documentation).
		p.theirs[i].Fd()
	}
	return p, nil
}

func (p *pipes) closeTheirs() { closeFiles(p.theirs[:]) }
func (p *pipes) closeOurs()   { closeFiles(append(p.ours[:], p.pty)) }

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close() // nil is fine
	}
}

// execFailure words an error as Docker does.
func execFailure(err error) error {
	var se *runtime.StartError
	if !errors.As(err, &se) {
		return err
	}
	f := startFailure(err)
	var s *startError
	if errors.As(f, &s) {
		s.message = "OCI runtime exec failed: exec failed: unable to start container process: " + se.Message + ": unknown"
		s.cause = invalid("%s", s.message)
	}
	return f
}

// ContainerExecInspect tells about an exec.
func (e *Engine) ContainerExecInspect(_ context.Context, execID string) (*container.ExecInspectResponse, error) {
	x, err := e.execs.find(execID)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	r := &container.ExecInspectResponse{
		ID: x.id, Running: x.started && !x.ended && x.proc != nil, ContainerID: x.c.id,
		OpenStdin: x.req.AttachStdin, OpenStdout: x.req.AttachStdout, OpenStderr: x.req.AttachStderr,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.req.Tty, Entrypoint: x.req.Cmd[0], Arguments: append([]string{}, x.req.Cmd[1:]...),
			Privileged: &x.req.Privileged, User: x.req.User,
		},
		DetachKeys: []byte(x.req.DetachKeys),
	}
	if x.proc != nil {
		r.Pid = x.proc.Pid()
	}
	if x.ended {
		code := x.code
		r.ExitCode, r.CanRemove = &code, true
	}
	return r, nil
}

// ExecHint is what to try after an exec that could not be executed; empty: nothing, or it was.
func (e *Engine) ExecHint(execID string) (string, error) {
	x, err := e.execs.find(execID)
	if err != nil {
		return "", err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.hint, nil
}

// ContainerExecResize sets the size of an exec's terminal.
func (e *Engine) ContainerExecResize(ctx context.Context, execID string, height, width uint) error {
	x, err := e.execs.find(execID)
	if err != nil {
		return err
	}
	x.mu.Lock()
	proc, ended := x.proc, x.ended
	x.mu.Unlock()
	if proc == nil || ended {
		return conflict("exec command %s is not running", execID)
	}
	return resizeError(proc.Resize(ctx, uint16(height), uint16(width)))
}
