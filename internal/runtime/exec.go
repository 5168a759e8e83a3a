package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/undo"
)

// Process is a process that [Container.Exec] prepared, or one that a daemon
// before this one did. It is safe for concurrent use.
type Process struct {
	c    *Container
	id   string
	pid  int
	pty  *os.File
	plan *plan.Plan

	mu   sync.Mutex
	done chan struct{}
	exit Exit
}

// ExpectExec says that an Exec of a process that is no tool is likely to follow
// within [wire.ExpectTime], and has its stage come up meanwhile. If none comes,
// that is ended. It returns when the shim has answered; an error means no more
// than that the Exec will take longer.
func (c *Container) ExpectExec(ctx context.Context) error {
	var spec wire.ExpectSpec
	var files []*os.File
	dir, err := c.groupDir(cgroup.App)
	if err != nil {
		return err
	}
	if dir != nil {
		defer dir.Close()
		spec.IntoCgroup, files = true, append(files, dir)
	}
	if err := c.call(ctx, wire.MethodExpect, spec, files...); err != nil {
		return fmt.Errorf("expect exec: %w", err)
	}
	return nil
}

// Exec prepares one more process: it is in the container's namespaces and
// cgroup and waits for [Process.Start]. A process that is not to be started
// after all is ended by Signal.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*Process, error) {
	if o.Process == nil {
		return nil, invalid("exec: no process")
	}
	if c.plan == nil && o.Seccomp == nil && !o.NoSeccomp {
		// It would have more rights than the container.
		return nil, errdefs.ErrFailedPrecondition.WithMessage("it is not known any more by what rules container " + c.id + " was started: restart it first")
	}
	ex := &execution{c: c, ctx: ctx, o: &o}
	defer ex.steps.Run()
	p, err := ex.run()
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", c.id, c.ifShortOfPids(err))
	}
	ex.steps.Keep()
	return p, nil
}

// execution is one call of Exec.
type execution struct {
	c     *Container
	ctx   context.Context // lives as long as the call
	o     *ExecOptions
	steps undo.Stack

	entrance *cgroup.Entrance
	carried  []carriedMount // into the view's own root
	mounts   []*os.File     // of the view, in the order of the plan
}

func (ex *execution) run() (*Process, error) {
	if v := ex.o.View; v != nil && len(v.Root.Lower) > 0 {
		var err error
		if ex.carried, err = ex.c.carriedMounts(); err != nil {
			return nil, err
		}
	}
	comp, err := ex.compile()
	if err != nil {
		return nil, err
	}
	if ex.mounts, err = ex.viewMounts(); err != nil {
		return nil, err
	}
	defer closeFiles(ex.mounts)
	// The plan's files are, after the mount namespace that the shim adds, the
	// view's mounts and the entrances to the v1 groups, in the order of the
	// hierarchies.
	entrance, err := ex.c.group.Entrance(ex.sub())
	if err != nil {
		return nil, err
	}
	defer entrance.Close()
	ex.entrance = entrance
	p := &Process{c: ex.c, id: ex.o.ID, plan: comp.plan, done: make(chan struct{})}
	if err := ex.c.register(p); err != nil {
		return nil, err
	}
	ex.steps.AddFunc(func() { ex.c.forget(p) })
	if err := ex.call(p); err != nil {
		return nil, err
	}
	ex.steps.AddFunc(func() { ex.abandon(p) })
	if err := setPriorities(p.pid, ex.o.Process); err != nil {
		return nil, err
	}
	return p, setProcessLimits(p.pid, comp.rlimits, ex.o.Process.OOMScoreAdj)
}

func (ex *execution) sub() cgroup.Sub {
	if ex.o.Tool {
		return cgroup.Debug
	}
	return cgroup.App
}

func (ex *execution) compile() (*compiled, error) {
	o := ex.o
	c := &compiler{group: ex.c.group, tree: ex.c.r.tree, out: compiled{plan: &plan.Plan{ID: ex.c.id, Mode: plan.ModeExec}}}
	c.step(plan.Step{Name: "mount namespace", Op: plan.OpSetns, Flags: unix.CLONE_NEWNS, File: c.file("mount namespace", source{kind: sourceMountNS})})
	if o.View != nil {
		ex.view(c)
	}
	if o.Process.Terminal {
		c.step(plan.Step{Name: "terminal", Op: plan.OpTerminal, Rows: o.Size[0], Columns: o.Size[1]})
	} else {
		c.step(plan.Step{Name: "session", Op: plan.OpSession})
	}
	c.step(plan.Step{Name: "keyring", Op: plan.OpKeyring, Value: "_ses." + ex.c.id})
	limits, raised, err := rlimitSteps(o.Process.Rlimits, hardLimit)
	if err != nil {
		return nil, err
	}
	c.step(plan.Step{Name: "wait for go", Op: plan.OpBarrier})
	if err := c.enterCgroups(ex.sub()); err != nil {
		return nil, err
	}
	filter := ex.c.filter()
	if o.NoSeccomp || o.Seccomp != nil {
		filter = nil
	}
	in := processInput{process: o.Process, limits: limits, groups: o.GroupAdd, filter: filter, filters: &ex.c.r.filters}
	if !o.NoSeccomp {
		in.seccomp = o.Seccomp
	}
	last, err := processSteps(in)
	if err != nil {
		return nil, err
	}
	c.out.plan.Steps = append(c.before, last...)
	c.out.rlimits = raised
	return &c.out, nil
}

// filter is the container's seccomp filter, nil if it has none.
func (c *Container) filter() *plan.Seccomp {
	if c.plan == nil {
		return nil
	}
	for _, s := range c.plan.Steps {
		if s.Op == plan.OpSeccomp {
			return s.Seccomp
		}
	}
	return nil
}

func (ex *execution) call(p *Process) error {
	raw, err := p.plan.Encode(ex.c.planFormat)
	if err != nil {
		return err
	}
	o := ex.o
	spec := wire.ExecSpec{
		ID: o.ID, Plan: raw, Args: o.Process.Args, Terminal: o.Process.Terminal,
		Size: wire.Size{Height: o.Size[0], Width: o.Size[1]}, Expected: !o.Tool, Note: o.Note,
		Outside: o.View != nil && !o.View.Inside,
	}
	var files []*os.File
	if !o.Process.Terminal {
		stdio, closeNull, err := ex.stdio()
		if err != nil {
			return err
		}
		defer closeNull()
		files = stdio
	}
	if ex.entrance.Dir != nil {
		spec.IntoCgroup = true
		files = append(files, ex.entrance.Dir)
	}
	var created wire.Created
	files = append(files, ex.mounts...)
	got, err := ex.c.callLong(ex.ctx, wire.MethodExec, spec, &created, append(files, ex.entrance.Tasks...)...)
	if err != nil {
		p.endLate(err)
		return startError(p.plan, err)
	}
	p.pid = created.PID
	if o.Process.Terminal {
		if len(got) != 1 {
			closeFiles(got)
			return fmt.Errorf("shim sent %d terminals", len(got))
		}
		p.pty = got[0]
		return nil
	}
	closeFiles(got)
	return nil
}

// stdio are the streams that the process gets. Pipes are given to the
// container's root, who can give them to the process's user: /dev/stdout is
// opened by the rights of the pipe's owner.
func (ex *execution) stdio() (files []*os.File, closeNull func(), err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range []*os.File{ex.o.Stdin, ex.o.Stdout, ex.o.Stderr} {
		if f == nil {
			f = null
		} else if err := ex.own(f); err != nil {
			null.Close()
			return nil, nil, err
		}
		files = append(files, f)
	}
	return files, func() { null.Close() }, nil
}

func (ex *execution) own(f *os.File) error {
	if ex.c.ids.Size == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Uid != 0 {
		return nil
	}
	return f.Chown(int(ex.c.ids.Host), int(ex.c.ids.Host))
}

// abandon ends a process that was prepared but cannot be used.
func (ex *execution) abandon(p *Process) {
	ctx, cancel := cleanup()
	defer cancel()
	if err := p.Signal(ctx, syscall.SIGKILL); err != nil {
		ex.c.r.log.Warn("end abandoned process", "container", ex.c.id, "process", p.id, "err", err)
	}
	if p.pty != nil {
		p.pty.Close()
	}
}

// register makes a process known, before the shim could tell of its end.
func (c *Container) register(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.processes[p.id]; taken || p.id == "" || p.id == wire.Init {
		return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("process %q exists", p.id))
	}
	c.processes[p.id] = p
	return nil
}

func (c *Container) forget(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.processes[p.id] == p {
		delete(c.processes, p.id)
	}
}

func (c *Container) processEnded(id string, e Exit) {
	c.mu.Lock()
	p := c.processes[id]
	delete(c.processes, id)
	c.mu.Unlock()
	if p != nil {
		p.finish(e)
	}
}

// Process is a process of the container that has not ended, by the id it was
// given by Exec; nil if there is none. It is how execs are found again after
// Load.
func (c *Container) Process(id string) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[id]
}

// Inherited is a process that an earlier daemon started by exec.
type Inherited struct {
	ID   string
	Args []string // nil: not known
	Note []byte   // as that daemon gave it in [ExecOptions]; nil: it gave none, or that is not known any more
	// Process is nil if it has ended, with Exit.
	Process *Process
	Exit    Exit
}

// Inherited lists the execs of earlier daemons that ran when the container was
// adopted, and the last of those that had ended.
func (c *Container) Inherited() []Inherited { return c.inherited }

// ID is the process's.
func (p *Process) ID() string { return p.id }

// Pid is the host's pid.
func (p *Process) Pid() int { return p.pid }

// PTY is the master end of the terminal, the caller's to close; nil without one.
func (p *Process) PTY() *os.File { return p.pty }

// Start lets the program run. A failure is a [*StartError], after which the
// process is gone.
func (p *Process) Start(ctx context.Context) error {
	var started wire.Started
	if _, err := p.c.callLong(ctx, wire.MethodGo, wire.ProcessRef{Process: p.id}, &started); err != nil {
		p.endLate(err)
		p.c.forget(p)
		if p.plan != nil {
			err = startError(p.plan, err)
		}
		return fmt.Errorf("exec in container %s: %w", p.c.id, p.c.ifShortOfPids(err))
	}
	p.plan = nil // it was for the error; some 20 KiB, as long as somebody may inspect the exec
	return nil
}

// endLate ends a process that a shim makes after all, although it did not answer
// in time: whoever asked for it was told that it failed.
func (p *Process) endLate(err error) {
	if !errors.Is(err, errNoAnswer) {
		return
	}
	client := p.c.shim()
	paid := client.Owing()
	if paid == nil {
		return
	}
	go func() {
		select {
		case <-paid:
		case <-client.Done():
			return
		}
		ctx, cancel := cleanup()
		defer cancel()
		if err := p.Signal(ctx, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.c.r.log.Warn("process that came too late was not ended", "container", p.c.id, "process", p.id, "err", err)
		}
	}()
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is valid after Done.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

func (p *Process) finish(e Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
	default:
		p.exit = e
		close(p.done)
	}
}

// Signal sends a signal.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.c.call(ctx, wire.MethodSignal, wire.SignalSpec{Process: p.id, Signal: sig})
}

// Resize sets the size of the terminal, whose master is held here.
func (p *Process) Resize(_ context.Context, height, width uint16) error {
	if p.pty == nil {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("process %q has no terminal", p.id))
	}
	rc, err := p.pty.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = rc.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	if err == nil {
		err = ioctlErr
	}
	if err != nil {
		return fmt.Errorf("resize terminal of process %q: %w", p.id, err)
	}
	return nil
}

// tasksPath is the v1 file through which a thread enters a cgroup.
func tasksPath(h cgroup.Hierarchy, g *cgroup.Group, sub cgroup.Sub) string {
	return filepath.Join(g.DirIn(h, sub), "tasks")
}
