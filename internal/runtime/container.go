package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// Container is a container that was created or adopted. It is safe for
// concurrent use.
type Container struct {
	r        *Runtime
	id       string
	runDir   string
	stateDir string
	logDir   string
	group    *cgroup.Group
	ids      IDRange
	terminal bool
	labels   map[string]string
	// shimProcess is the shim, if it was recorded.
	shimProcess shimID
	plan        *plan.Plan
	planFormat  int // what its shim's stages read, see plan.Plan.Encode
	warnings    []string
	pid         int
	inherited   []Inherited // execs of earlier daemons
	unstarted   []*Process  // execs that wait for a daemon which is gone

	done chan struct{} // closed when exit is valid
	exit Exit
	oom  chan struct{}

	mu        sync.Mutex
	client    *wire.Client // replaced when the shim has cut the conversation off
	startedAt time.Time
	started   bool
	timings   []plan.Timing
	processes map[string]*Process
	deleted   bool
	released  bool
	oomTold   uint64 // kills that oom has told of

	removal chan struct{} // has an element while somebody removes it
	removed bool          // guarded by removal
}

func (r *Runtime) newContainer(id, stateDir, logDir string) *Container {
	return &Container{
		r: r, id: id, stateDir: stateDir, logDir: logDir,
		runDir:    filepath.Join(r.opts.ExecRoot, id),
		group:     r.tree.Group(filepath.Join(r.opts.CgroupParent, id)),
		done:      make(chan struct{}),
		oom:       make(chan struct{}, 1),
		removal:   make(chan struct{}, 1),
		processes: map[string]*Process{},
	}
}

func (c *Container) socket() string { return filepath.Join(c.runDir, socketName) }

// recordName is the file in the run directory from which a container is adopted.
const recordName = "runtime.json"

// record is its content. The run directory is on a tmpfs and belongs to the
// host's root: it lives as long as the shim can.
type record struct {
	ID       string            `json:"id"`
	IDs      IDRange           `json:"ids"`
	Shim     shimID            `json:"shim"`
	Cgroup   string            `json:"cgroup"`
	StateDir string            `json:"state_dir"`
	LogDir   string            `json:"log_dir"`
	Terminal bool              `json:"terminal,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Timings  []plan.Timing     `json:"timings,omitempty"`
	Plan     *plan.Plan        `json:"plan"`
}

func (c *Container) save() error {
	b, err := json.Marshal(record{
		ID: c.id, IDs: c.ids, Shim: c.shimProcess, Cgroup: c.group.Path(), StateDir: c.stateDir, LogDir: c.logDir, Terminal: c.terminal,
		Warnings: c.warnings, Labels: c.labels, Timings: c.Timings(), Plan: c.plan,
	})
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	name := filepath.Join(c.runDir, recordName)
	if err := failpoint.Hit("runtime.write"); err != nil {
		return err
	}
	if err := os.WriteFile(name+".tmp", b, 0o600); err != nil {
		return err
	}
	if err := failpoint.Hit("runtime.rename"); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// answerTimeout is how long a shim has to answer a question that it can answer
// at once. One that somebody has stopped must not hold up a whole daemon.
const answerTimeout = 3 * time.Second

// patience is how long a shim may take for what depends on the container,
// without a sign of life.
const patience = 20 * time.Second

var errNoAnswer = errors.New("the shim does not answer")

// Load adopts a container whose shim still runs. The error is
// errdefs.ErrNotFound when there is none: then whatever such a container has
// left (processes, cgroup, run directory) is removed first. A shim that does
// not answer within seconds is an error, too; see [Runtime.Discard].
func (r *Runtime) Load(ctx context.Context, id, stateDir, logDir string) (*Container, error) {
	if !idPattern.MatchString(id) {
		return nil, invalid("container id %q is not usable", id)
	}
	c := r.newContainer(id, stateDir, logDir)
	lost := c.load()
	client, err := wire.Dial(c.socket())
	if err != nil {
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("adopt container %s: %w", id, err)
		}
		if err := c.remove(ctx); err != nil {
			return nil, fmt.Errorf("adopt container %s: %w", id, err)
		}
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no shim", id))
	}
	c.client = client
	var st wire.State
	if err := c.ask(ctx, wire.MethodState, &st); err != nil {
		client.Close()
		return nil, fmt.Errorf("adopt container %s: %w", id, err)
	}
	if st.Status == wire.StatusNone || st.Status == wire.StatusCreated {
		// Its daemon ended in the middle of a start: nobody will go on with it.
		if err := c.remove(ctx); err != nil {
			return nil, fmt.Errorf("take back container %s, which was never started: %w", id, err)
		}
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s was never started", id))
	}
	c.adopt(st)
	if lost != nil {
		r.log.Error("record of a running container is lost: nothing more can be executed in it", "container", id, "err", lost)
		if c.ids, err = idsOf(c.pid); err != nil {
			r.log.Warn("host ids of a running container are not known", "container", id, "err", err)
		}
	}
	c.lookForOOM()
	go c.follow()
	for _, p := range c.unstarted {
		if err := p.Signal(ctx, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.log.Warn("exec that nobody will start was not ended", "container", id, "process", p.id, "err", err)
		}
	}
	return c, nil
}

// Discard ends a container that cannot be adopted, its shim included, and
// removes what it has left. It asks nobody.
func (r *Runtime) Discard(ctx context.Context, id string) error {
	if !idPattern.MatchString(id) {
		return invalid("container id %q is not usable", id)
	}
	if err := r.left.removeNow(ctx, id); err != nil {
		return fmt.Errorf("discard container %s: %w", id, err)
	}
	c := r.newContainer(id, "", "")
	if err := c.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("record of a container that is discarded cannot be read", "container", id, "err", err)
	}
	if err := c.remove(ctx); err != nil {
		return fmt.Errorf("discard container %s: %w", id, err)
	}
	return nil
}

// Alive tells whether a container has a shim. It asks the shim nothing, so that
// one which is stopped is alive, too.
func (r *Runtime) Alive(id string) bool {
	if !idPattern.MatchString(id) {
		return false
	}
	client, err := wire.Dial(r.newContainer(id, "", "").socket())
	if err != nil {
		return errors.Is(err, unix.EAGAIN) // it does not get to taking connections
	}
	client.Close()
	return true
}

// IDs are those that the record of a container of this or an earlier daemon has.
func (r *Runtime) IDs(id string) (IDRange, error) {
	if !idPattern.MatchString(id) {
		return IDRange{}, invalid("container id %q is not usable", id)
	}
	c := r.newContainer(id, "", "")
	if err := c.load(); err != nil {
		return IDRange{}, fmt.Errorf("ids of container %s: %w", id, err)
	}
	return c.ids, nil
}

// ask calls a method that takes the shim no time.
func (c *Container) ask(ctx context.Context, method string, out any) error {
	return c.callShort(ctx, method, nil, out)
}

// idsOf reads which host ids a process's user namespace has, see
// user_namespaces(7).
func idsOf(pid int) (IDRange, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		return IDRange{}, err
	}
	var inside, host, size uint32
	if _, err := fmt.Sscan(string(b), &inside, &host, &size); err != nil {
		return IDRange{}, fmt.Errorf("uid map of pid %d: %w", pid, err)
	}
	if host == 0 {
		return IDRange{}, nil
	}
	return IDRange{Host: host, Size: size}, nil
}

// load reads the record.
func (c *Container) load() error {
	b, err := os.ReadFile(filepath.Join(c.runDir, recordName))
	if err != nil {
		return err
	}
	var rec record
	if err := json.Unmarshal(b, &rec); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	c.group = c.r.tree.Group(rec.Cgroup)
	c.shimProcess = rec.Shim
	c.ids, c.terminal, c.warnings, c.labels, c.timings = rec.IDs, rec.Terminal, rec.Warnings, rec.Labels, rec.Timings
	c.plan = rec.Plan
	return nil
}

// adopt takes over what the shim knows.
func (c *Container) adopt(st wire.State) {
	c.pid, c.startedAt, c.planFormat = st.PID, st.StartedAt, st.PlanFormat
	c.started = !st.StartedAt.IsZero()
	for _, s := range st.Steps {
		c.timings = append(c.timings, plan.Timing{Name: s.Name, Microseconds: s.Microseconds})
	}
	for _, p := range st.Processes {
		if p.ID != wire.Init {
			known := &Process{c: c, id: p.ID, pid: p.PID, done: make(chan struct{})}
			c.processes[p.ID] = known
			if p.Status != wire.StatusRunning {
				c.unstarted = append(c.unstarted, known)
				continue
			}
			c.inherited = append(c.inherited, Inherited{ID: p.ID, Args: p.Args, Note: p.Note, Process: known})
		}
	}
	for _, e := range st.Ended {
		c.inherited = append(c.inherited, Inherited{ID: e.Process, Args: e.Args, Note: e.Note, Exit: exitOf(e.Exit)})
	}
	if st.Exit != nil {
		c.finish(c.observed(*st.Exit))
	}
}

// ID is the container's.
func (c *Container) ID() string { return c.id }

// IDs is the range of host ids of the container's user namespace.
func (c *Container) IDs() IDRange { return c.ids }

// Start lets the program run. A failure is a [*StartError] and leaves the
// container to be deleted.
func (c *Container) Start(ctx context.Context) error {
	begin := time.Now()
	var started wire.Started
	if _, err := c.callLong(ctx, wire.MethodGo, wire.ProcessRef{Process: wire.Init}, &started); err != nil {
		return fmt.Errorf("start container %s: %w", c.id, c.ifShortOfPids(startError(c.plan, err)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started, c.startedAt = true, started.StartedAt
	c.timings = append(c.timings, plan.Timing{Name: "start", Microseconds: time.Since(begin).Microseconds()})
	for _, s := range started.Steps {
		c.timings = append(c.timings, plan.Timing{Name: "stage: " + s.Name, Microseconds: s.Microseconds})
	}
	return nil
}

// Pid is the host's pid of the first process.
func (c *Container) Pid() int { return c.pid }

// StartedAt is when the program was executed; zero before.
func (c *Container) StartedAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.startedAt
}

// Warnings are what could not be done as asked but did not prevent the start.
func (c *Container) Warnings() []string { return c.warnings }

// Timings are the steps done so far: the daemon's, then, after Start, the
// stage's, whose names begin with "stage: ".
func (c *Container) Timings() []plan.Timing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]plan.Timing(nil), c.timings...)
}

// Plan is what the stage was told to do; nil if a container was adopted whose
// record is lost. It must not be changed.
func (c *Container) Plan() *plan.Plan { return c.plan }

// Cgroup is the container's group.
func (c *Container) Cgroup() *cgroup.Group { return c.group }

// Pids lists the container's processes, in ascending order. A stage that waits
// there for an exec is none of them.
func (c *Container) Pids() ([]int, error) {
	pids, err := c.group.Pids()
	if err != nil {
		return nil, err
	}
	shim, err := os.Stat(fmt.Sprintf("/proc/%d/exe", c.shimProcess.PID))
	if err != nil {
		return pids, nil //nolint:nilerr // the shim is gone, and its stages with it
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		if pid == c.pid {
			return false // --init is the shim's program, too
		}
		exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
		return err == nil && os.SameFile(exe, shim)
	}), nil
}

// NetNS opens the container's network namespace. The caller closes it.
func (c *Container) NetNS() (*os.File, error) { return c.namespace(ns.Net) }

// namespace opens a namespace of the first process, and makes sure that it was
// that process's and not one's that got its pid afterwards.
func (c *Container) namespace(kind ns.Kind) (*os.File, error) {
	notRunning := errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("container %s is not running", c.id))
	f, err := ns.Open(c.pid, kind)
	if errors.Is(err, fs.ErrNotExist) { // it has ended, and its shim has not told yet
		return nil, notRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open %s namespace of container %s: %w", kind, c.id, err)
	}
	select {
	case <-c.done:
		f.Close()
		return nil, notRunning
	default:
		return f, nil
	}
}

// spawn has the shim start another one in its user namespace.
func (c *Container) spawn(ctx context.Context, files []*os.File) (int, error) {
	var created wire.Created
	if _, err := c.callLong(ctx, wire.MethodSpawn, wire.SpawnSpec{}, &created, files...); err != nil {
		return 0, fmt.Errorf("start shim beside container %s: %w", c.id, err)
	}
	return created.PID, nil
}

// Attach connects to the first process's streams. The result is the caller's
// end of a socket pair: output comes out of it, raw with a terminal, else in
// Docker's 8-byte frames; what is written to it is input.
func (c *Container) Attach(ctx context.Context, o AttachOptions) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "attach"), os.NewFile(uintptr(pair[1]), "attach")
	defer theirs.Close()
	spec := wire.AttachSpec{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, CloseStdin: o.CloseStdin}
	if _, err := c.callLong(ctx, wire.MethodAttach, spec, nil, theirs); err != nil {
		ours.Close()
		return nil, fmt.Errorf("attach to container %s: %w", c.id, c.ifShortOfPids(err))
	}
	return ours, nil
}

// feedBuffer is how much of the log may wait in the socket of a feed; the kernel
// takes it twice for what it needs itself.
const feedBuffer = 1 << 20

// FeedLog gives what is written into the log, as crilog's batches, one a read. It
// begins with where the log is, and ends when the first process and its output
// have ended. A caller that does not read misses batches, and delays nobody.
func (c *Container) FeedLog(ctx context.Context) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "log feed"), os.NewFile(uintptr(pair[1]), "log feed")
	defer theirs.Close()
	// With less, more is missed.
	_ = unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, feedBuffer)
	if err := c.callShort(ctx, wire.MethodFeedLog, nil, nil, theirs); err != nil {
		ours.Close()
		return nil, fmt.Errorf("follow log of container %s: %w", c.id, err)
	}
	return ours, nil
}

// Signal sends a signal to the first process.
func (c *Container) Signal(ctx context.Context, sig syscall.Signal) error {
	return c.call(ctx, wire.MethodSignal, wire.SignalSpec{Process: wire.Init, Signal: sig})
}

// Resize sets the size of the terminal.
func (c *Container) Resize(ctx context.Context, height, width uint16) error {
	return c.call(ctx, wire.MethodResize, wire.ResizeSpec{Process: wire.Init, Height: height, Width: width})
}

// CloseStdin closes the first process's standard input.
func (c *Container) CloseStdin(ctx context.Context) error {
	return c.call(ctx, wire.MethodCloseStdin, nil)
}

func (c *Container) call(ctx context.Context, method string, in any, files ...*os.File) error {
	if err := c.callShort(ctx, method, in, nil, files...); err != nil {
		return fmt.Errorf("container %s: %w", c.id, err)
	}
	return nil
}

// Freeze stops all processes of the container; Thaw lets them go on.
func (c *Container) Freeze(ctx context.Context) error { return c.group.Freeze(ctx) }

// Thaw undoes Freeze.
func (c *Container) Thaw(ctx context.Context) error { return c.group.Thaw(ctx) }

// Frozen says whether the container is frozen.
func (c *Container) Frozen() (bool, error) { return c.group.Frozen() }

// Kill kills every process of the container, execs and frozen ones included,
// and returns when none is left.
func (c *Container) Kill(ctx context.Context) error { return c.group.Kill(ctx) }

// Done is closed when the first process has ended.
func (c *Container) Done() <-chan struct{} { return c.done }

// Exit is valid after Done.
func (c *Container) Exit() Exit {
	select {
	case <-c.done:
		return c.exit
	default:
		return Exit{}
	}
}

// ReadExit reads the exit that the shim wrote into a state directory. The error
// is fs.ErrNotExist if there is none.
func ReadExit(stateDir string) (Exit, error) {
	e, err := shim.ReadExit(stateDir)
	if err != nil {
		return Exit{}, err
	}
	return exitOf(e), nil
}

// ReadBegun reads in a state directory which run has begun, and when, whose end no shim has written. The error is
// fs.ErrNotExist if there is none.
func ReadBegun(stateDir string) (run int, at time.Time, err error) { return shim.ReadBegun(stateDir) }

func exitOf(e wire.Exit) Exit {
	return Exit{
		Code: e.Code, Signal: e.Signal, Core: e.Core, At: e.At, Ran: e.Ran, Observed: true, WaitStatus: e.Status, Signals: e.Signals,
	}
}

// observed completes an exit with what the cgroup knows.
func (c *Container) observed(e wire.Exit) Exit {
	exit := exitOf(e)
	exit.OOMKills = c.lookForOOM()
	exit.OOMKilled = exit.OOMKills > 0
	return exit
}

func (c *Container) finish(e Exit) {
	select {
	case <-c.done:
	default:
		c.exit = e
		close(c.done)
	}
}

// shim is the present conversation with the shim.
func (c *Container) shim() *wire.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// follow hears what the shim tells until it ends. It is the only caller of
// finish once it runs.
func (c *Container) follow() {
	defer c.watchOOM()()
	for {
		for ev := range c.shim().Events() {
			c.heard(ev)
		}
		c.mu.Lock()
		released := c.released
		c.mu.Unlock()
		if released {
			return
		}
		if !c.reconnect() {
			c.shimEnded()
			return
		}
	}
}

func (c *Container) heard(ev wire.Event) {
	if ev.Name != wire.EventExited {
		return
	}
	var e wire.Exited
	if err := json.Unmarshal(ev.Body, &e); err != nil {
		c.r.log.Warn("event of a shim is not understood", "container", c.id, "err", err)
		return
	}
	if e.Process == wire.Init {
		c.finish(c.observed(e.Exit))
	} else {
		c.processEnded(e.Process, exitOf(e.Exit))
	}
}

// reconnect takes the conversation up again with a shim that still lives: it
// cuts off whoever reads nothing for long, and this process may have been
// stopped. What happened meanwhile is in the shim's state. One that does not
// answer may have been stopped itself: it is no reason to end its container.
func (c *Container) reconnect() bool {
	told := false
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		pids, err := c.shimPids()
		if err != nil || len(pids) == 0 || c.isOver() {
			return false
		}
		client, err := wire.Dial(c.socket())
		if err == nil {
			var st wire.State
			if err = c.greet(client, &st); err == nil {
				c.catchUp(client, st)
				return true
			}
			client.Close()
		}
		if !told && wait == time.Second {
			told = true
			c.r.log.Warn("shim does not answer", "container", c.id, "pids", pids, "err", err)
		}
		<-time.After(wait)
	}
}

// greet asks a shim that has just been connected with for its state.
func (c *Container) greet(client *wire.Client, st *wire.State) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), answerTimeout, errNoAnswer)
	defer cancel()
	_, err := client.Call(ctx, wire.MethodState, nil, st)
	return err
}

// catchUp settles what ended while nobody listened.
func (c *Container) catchUp(client *wire.Client, st wire.State) {
	c.mu.Lock()
	c.client.Close()
	c.client = client
	missing := map[string]bool{}
	for id := range c.processes {
		missing[id] = true
	}
	c.mu.Unlock()
	for _, p := range st.Processes {
		delete(missing, p.ID)
	}
	for _, e := range st.Ended {
		if missing[e.Process] {
			delete(missing, e.Process)
			c.processEnded(e.Process, exitOf(e.Exit))
		}
	}
	for id := range missing {
		c.processEnded(id, unobserved())
	}
	if st.Exit != nil {
		c.finish(c.observed(*st.Exit))
	}
}

// isOver tells that nobody is interested in the shim any more.
func (c *Container) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deleted || c.released
}

func (c *Container) isDeleted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deleted
}

// unobserved is the exit of what nobody saw end.
func unobserved() Exit {
	return Exit{Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL, At: time.Now().UTC()}
}

// Release lets go of a container that goes on: what Load is the opposite of.
// Done is then never closed, and all other methods fail.
func (c *Container) Release() error {
	c.mu.Lock()
	c.released = true
	c.mu.Unlock()
	return c.shim().Close()
}

// shimEnded settles what is open when the shim is gone. A shim that ended in
// order has told everything or written it down; after one that was killed,
// nobody looks after the container's processes: they are killed, too.
func (c *Container) shimEnded() {
	lost := unobserved()
	select {
	case <-c.done:
	default:
		if e, err := shim.ReadExit(c.stateDir); err == nil {
			c.finish(c.observed(e))
			break
		}
		if !c.isDeleted() { // else it was ended by this daemon
			lost.Shim = c.shimProcess.PID
			c.r.log.Warn("shim ended without an exit record", "container", c.id)
			ctx, cancel := cleanup()
			defer cancel()
			if err := c.group.Kill(ctx); err != nil {
				c.r.log.Warn("kill orphaned container", "container", c.id, "err", err)
			}
		}
		c.finish(lost)
	}
	c.mu.Lock()
	left := c.processes
	c.processes = map[string]*Process{}
	c.mu.Unlock()
	for _, p := range left {
		p.finish(lost)
	}
}

// Delete removes what the container has outside of its own directories:
// processes that are left, shim, cgroup, run directory. It may be called again,
// and for a container that was never started. What it fails of is tried again in the background.
func (c *Container) Delete(ctx context.Context) error {
	c.mu.Lock()
	c.deleted = true
	c.mu.Unlock()
	if err := c.remove(ctx); err != nil {
		c.r.left.removeLater(c)
		return fmt.Errorf("delete container %s: %w", c.id, err)
	}
	return nil
}

func (c *Container) remove(ctx context.Context) error {
	select {
	case c.removal <- struct{}{}:
		defer func() { <-c.removal }()
	case <-ctx.Done(): // somebody tries already
		return context.Cause(ctx)
	}
	if c.removed { // the container may run anew
		return nil
	}
	if err := c.removeAll(ctx); err != nil {
		return err
	}
	c.removed = true
	return nil
}

func (c *Container) removeAll(ctx context.Context) error {
	if err := c.group.Kill(ctx); err != nil {
		return err
	}
	grace := shimGrace
	if client := c.shim(); client != nil {
		// A shim whose processes have ended ends by itself; one that was
		// never started does when told.
		// One that does neither is killed below.
		err := c.ask(ctx, wire.MethodShutdown, nil)
		switch {
		case errors.Is(err, errNoAnswer):
			grace = 0
		case err == nil:
			select {
			case <-client.Done():
			case <-time.After(answerTimeout):
			case <-ctx.Done():
			}
		}
		client.Close()
	}
	if err := c.killShim(ctx, grace); err != nil {
		return err
	}
	if err := c.group.Destroy(ctx); err != nil {
		return err
	}
	return os.RemoveAll(c.runDir)
}
