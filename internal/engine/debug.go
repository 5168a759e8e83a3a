package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// A session of debug is an exec of a tool of ours: its own streams, terminal and end, in the container's group for tools.
// It differs in what it sees, see runtime.View, in its rights, and in that it ends with its client.

// toolsPath is where a session finds our programs.
const toolsPath = plan.ToolsDir + "/bin"

// changesMost is how many changes of a session are told one by one.
const changesMost = 1000

// debugTimeout bounds what has to be done at the end of a session.
const debugTimeout = 20 * time.Second

// debugging is what makes an exec a session of debug.
type debugging struct {
	req   api.DebugRequest
	facts api.DebugSession // as it was asked for
	// standIn is what the session is executed in if not in the target itself; nil: in that.
	standIn *standIn
	// subject is who the events are about; nil: nobody.
	subject *view
	asked   time.Time
	toolbox *image.Image // whose programs come before our tools; nil: none

	mu      sync.Mutex
	view    runtime.View
	closing []func(ctx context.Context) // in the order in which it was opened
	changes []image.Change
}

// DebugCreate prepares a session, which is started as an exec is.
func (e *Engine) DebugCreate(ctx context.Context, req api.DebugRequest) (api.DebugSession, error) {
	if err := checkDebug(&req); err != nil {
		return api.DebugSession{}, err
	}
	if e.deps.Tools == nil {
		return api.DebugSession{}, errNoTools(nil)
	}
	toolbox, err := e.resolveToolbox(ctx, req.Toolbox)
	if err != nil {
		return api.DebugSession{}, err
	}
	x, err := e.debugTarget(ctx, req)
	if err != nil {
		return api.DebugSession{}, err
	}
	x.debug.toolbox, x.debug.facts.Toolbox = toolbox, req.Toolbox
	e.execs.add(x)
	e.emitExec(ctx, x, events.ActionExecCreate)
	return x.debugSession(), nil
}

// debugTarget finds what is to be debugged: a container, or else an image.
func (e *Engine) debugTarget(ctx context.Context, req api.DebugRequest) (*execution, error) {
	c, err := e.registry.find(req.Target)
	if errdefs.IsNotFound(err) {
		if kept := e.remains.find(req.Target); kept != nil {
			return e.debugRemoved(kept, req)
		}
		return e.debugImage(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	v := c.view()
	if v.live() && v.status() != container.StateRestarting {
		return e.debugRunning(c, v, req)
	}
	return e.debugStopped(c, v, req)
}

// debugRunning prepares a session in a container with processes. That they are paused is no matter.
func (e *Engine) debugRunning(c *ctr, v *view, req api.DebugRequest) (*execution, error) {
	if err := runsForDebug(v); err != nil {
		return nil, err
	}
	d := &debugging{req: req, facts: api.DebugSession{Target: v.ID, Name: v.Name, State: string(v.status()), Writes: "live"}, subject: v}
	if req.Discard {
		d.facts.Writes = "discard"
	}
	d.place(v)
	return d.execution(c), nil
}

func checkDebug(req *api.DebugRequest) error {
	switch {
	case req.Live && req.Discard:
		return invalid("conflicting options: what is written is either live or discarded")
	case req.Root && req.User != "":
		return invalid("conflicting options: --root and --user")
	case req.AsTarget && (req.Root || req.Privileged || req.User != ""):
		return invalid("conflicting options: the target's own rights and user, or others")
	}
	if len(req.Command) == 0 {
		req.Command = []string{"sh"}
	}
	return nil
}

func errNoTools(err error) error {
	if err == nil {
		err = errors.New("this daemon has none")
	}
	return internal("tools for debug sessions: %v", err)
}

// runsForDebug checks that a container has processes.
func runsForDebug(v *view) error {
	switch v.status() {
	case container.StateRunning, container.StatePaused:
		if v.task != nil {
			return nil
		}
	case container.StateCreated, container.StateExited, container.StateRestarting, container.StateRemoving, container.StateDead:
	}
	return errNoTask(v)
}

// place decides whether the session is among the target's processes.
func (d *debugging) place(v *view) {
	own := v.ResolvedPID != "" || !v.HostConfig.PidMode.IsHost()
	switch {
	case !own || d.req.JoinPID || d.req.AsTarget:
		// With the target's rights pid 1 must be the target's as well: tools that attach send it signals.
		d.view.Inside = true
	case v.IDs.Size == 0:
		// It would have rights over all processes of the host, and their numbers
		// in place of the target's.
		d.view.Inside = true
		d.note("the target is in the host's user namespace, so this session is among its processes, which see it")
	}
}

func (d *debugging) note(format string, args ...any) {
	d.facts.Notes = append(d.facts.Notes, fmt.Sprintf(format, args...))
}

// execution is the exec of the session.
func (d *debugging) execution(c *ctr) *execution {
	r := &d.req
	req := container.ExecCreateRequest{
		User: r.User, Privileged: r.Privileged, Tty: r.TTY, Env: r.Env, WorkingDir: r.WorkingDir, Cmd: r.Command,
		AttachStdin: r.Stdin, AttachStdout: true, AttachStderr: true,
	}
	if r.Root || r.Privileged && r.User == "" {
		req.User = "0"
	}
	d.asked = time.Now()
	return &execution{id: randomID(), c: c, req: req, dieWithClient: true, debug: d}
}

// startable checks what an exec's start is asked for.
func (d *debugging) startable(v *view, o ExecStartOptions) error {
	if o.Detach {
		return invalid("a debug session ends with its client: it cannot be detached")
	}
	if d.standIn != nil {
		return nil
	}
	return runsForDebug(v)
}

// openDebug prepares what the session needs, and returns the container that it is executed in. What has been prepared
// when it fails is undone.
func (e *Engine) openDebug(ctx context.Context, x *execution) (v *view, err error) {
	defer func() {
		if err != nil {
			e.closeDebug(ctx, x)
		}
	}()
	if v, err = e.openTarget(ctx, x); err != nil {
		return nil, err
	}
	return v, e.openToolbox(ctx, x)
}

func (e *Engine) openTarget(ctx context.Context, x *execution) (v *view, err error) {
	d := x.debug
	dir, err := e.deps.Tools()
	if err != nil {
		return nil, errNoTools(err)
	}
	if d.view.Tools, err = os.Open(dir); err != nil {
		return nil, errNoTools(err)
	}
	d.onClose(func(context.Context) { d.view.Tools.Close() })
	if x.req.Tty {
		e.histories.serve(dir)
	}
	if d.standIn != nil {
		return d.standIn.open(ctx, x)
	}
	v = x.c.view()
	if err := runsForDebug(v); err != nil {
		return nil, err
	}
	task := v.task
	leave, err := e.tools.enter(ctx, x.c.id, func() { e.endTools(x.c.id, task) })
	if err != nil {
		return nil, err
	}
	d.onClose(func(context.Context) { leave() })
	if d.facts.Writes == "live" {
		return v, nil
	}
	name := standInName(x.id)
	if _, err := e.registry.reserve(name, x.id); err != nil { // so that what is its is nobody's leftover
		return nil, err
	}
	layers, err := e.deps.Images.CreateRootFSOver(ctx, x.id, x.c.id)
	if err != nil {
		e.registry.release(name, x.id)
		return nil, err
	}
	d.view.Root = runtime.Layers(layers)
	d.onClose(func(ctx context.Context) {
		e.takeChanges(ctx, x, layers, v)
		e.registry.release(name, x.id)
	})
	return v, nil
}

func (d *debugging) onClose(f func(ctx context.Context)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = append(d.closing, f)
}

// closeDebug takes back what openDebug made. It may be called again.
func (e *Engine) closeDebug(ctx context.Context, x *execution) {
	d := x.debug
	d.mu.Lock()
	steps := d.closing
	d.closing = nil
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), debugTimeout)
	defer cancel()
	// In that order: nothing may write any more when the changes are taken.
	for _, f := range steps {
		f(ctx)
	}
}

// takeChanges notes what a session has written that is discarded, and discards it.
func (e *Engine) takeChanges(ctx context.Context, x *execution, layers image.Layers, v *view) {
	// The working directory is made if it is missing.
	changes, err := e.deps.Images.LayerChanges(ctx, layers, append(mountTargets(v), "/"+v.Config.WorkingDir))
	if err != nil {
		e.log.Warn("changes of a debug session are not known", "container", v.ID, "exec", x.id, "err", err)
	}
	if err := e.deps.Images.RemoveRootFS(ctx, x.id); err != nil {
		e.log.Error("files of a debug session were not removed", "container", v.ID, "exec", x.id, "err", err)
	}
	x.debug.mu.Lock()
	defer x.debug.mu.Unlock()
	x.debug.changes = changes
}

// endTools ends what the sessions of a container have left running.
func (e *Engine) endTools(id string, task Task) {
	select {
	case <-task.Done(): // its groups are cleared away as a whole
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), debugTimeout)
	defer cancel()
	if err := task.EndTools(ctx); err != nil {
		e.log.Warn("what a debug session has left runs on", "container", id, "err", err)
	}
}

// inheritTools is for a session that an earlier daemon has started.
func (e *Engine) inheritTools(id string, task Task) (leave func()) {
	leave, err := e.tools.enter(e.life, id, func() { e.endTools(id, task) })
	if err != nil {
		return func() {} // this daemon ends, too
	}
	return sync.OnceFunc(leave)
}

// shape makes an exec's options a session's.
func (d *debugging) shape(o *runtime.ExecOptions) {
	p := o.Process
	switch {
	case d.standIn == nil:
		o.Tool, o.View = true, &d.view
	case d.toolbox != nil: // our tools are there
		o.View = &runtime.View{Inside: true, Toolbox: d.view.Toolbox}
	}
	p.Env = withTools(p.Env, toolsPath)
	if d.toolbox != nil {
		d.useToolbox(p)
	}
	p.OOMScoreAdj = nil
	if d.req.AsTarget {
		p.Rlimits = runtime.WithoutHurtful(p.Rlimits)
		return
	}
	o.NoSeccomp = true
	p.Rlimits = nil // a container at its limits is what one looks into, and the tools need more than some allow
	p.NoNewPrivileges, p.ApparmorProfile = false, ""
	p.Capabilities = tracing(p.Capabilities)
}

// tracing adds the right to trace other processes. As an ambient capability it is left to those who are not root, too.
func tracing(c *specs.LinuxCapabilities) *specs.LinuxCapabilities {
	const ptrace = "CAP_SYS_PTRACE"
	var out specs.LinuxCapabilities
	if c != nil {
		out = *c
	}
	for _, set := range []*[]string{&out.Bounding, &out.Effective, &out.Permitted, &out.Inheritable, &out.Ambient} {
		if !slices.Contains(*set, ptrace) {
			*set = append(slices.Clone(*set), ptrace)
		}
	}
	return &out
}

// withTools puts directories of programs in front of the target's own.
func withTools(env []string, dirs string) []string {
	out := slices.Clone(env)
	for i, e := range slices.Backward(out) {
		if rest, ok := strings.CutPrefix(e, "PATH="); ok {
			out[i] = "PATH=" + dirs + ":" + rest
			return out
		}
	}
	return append(out, "PATH="+dirs)
}

// debugSession tells of a session.
func (x *execution) debugSession() api.DebugSession {
	x.mu.Lock()
	s := x.debug.facts
	s.ID, s.User, s.Command, s.TTY = x.id, x.req.User, x.req.Cmd, x.req.Tty
	if s.User == "" {
		s.User = userOf(x.c.view())
	}
	if x.proc != nil && !x.ended {
		s.PID, s.StartedAt = x.proc.Pid(), x.startedAt
	}
	x.mu.Unlock()
	d := x.debug
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.changes[:min(len(d.changes), changesMost)] {
		s.Changes = append(s.Changes, changeLetter(c.Kind)+" "+c.Path)
	}
	s.Changed = len(d.changes)
	return s
}

func changeLetter(k image.ChangeKind) string {
	switch k {
	case image.Added:
		return "A"
	case image.Deleted:
		return "D"
	case image.Modified:
	}
	return "C"
}

// DebugSession is a session with who has started it; nil if it was not started, or that is not known.
type DebugSession struct {
	api.DebugSession
	Client *event.Origin
}

// DebugSession tells of a session, also of one that has just ended.
func (e *Engine) DebugSession(_ context.Context, id string) (DebugSession, error) {
	x, err := e.execs.find(id)
	if err == nil && x.debug == nil {
		err = notFound("No such debug session: %s", id)
	}
	if err != nil {
		return DebugSession{}, err
	}
	return DebugSession{x.debugSession(), x.origin()}, nil
}

func (x *execution) origin() *event.Origin {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.client
}

// DebugSessions lists the sessions that run, the oldest first.
func (e *Engine) DebugSessions(context.Context) ([]DebugSession, error) {
	list := []DebugSession{}
	for _, x := range e.execs.debugged() {
		if s := x.debugSession(); s.PID != 0 {
			list = append(list, DebugSession{s, x.origin()})
		}
	}
	slices.SortFunc(list, func(a, b DebugSession) int { return a.StartedAt.Compare(b.StartedAt) })
	return list, nil
}

func (t *execTable) debugged() []*execution {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*execution
	for _, x := range t.byID {
		if x.debug != nil {
			list = append(list, x)
		}
	}
	return list
}

// refusedWhilePaused is the error of an exec in a paused container, with the way that works.
func refusedWhilePaused(ref string) error {
	err := conflict("Container %s is paused, unpause the container before exec", ref)
	return problem.WithHint(err, "porthole debug "+ref)
}
