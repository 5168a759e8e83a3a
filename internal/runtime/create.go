package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/forker"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/undo"
)

// Runtime creates containers. It is safe for concurrent use.
type Runtime struct {
	opts Options
	log  *slog.Logger
	tree *cgroup.Tree
	oom  *cgroup.OOMWatcher
	shim *os.File // executable, sealed, unreadable for all but root

	filters filters

	expected expectations
	left     leftovers

	forkerMu sync.Mutex // guards forker
	forker   *forker.Client

	initOnce sync.Once
	init     *os.File // the same, readable: it becomes a process of the container
	initErr  error

	// patience is how long a shim is waited for that gives no sign of life.
	patience time.Duration
	// attachLayers takes the way of older kernels, for tests.
	attachLayers bool
	// failAt makes a step fail, for tests of what is left behind.
	failAt func(step string) error
}

// New prepares a runtime: it reads the shim binary and looks for the cgroup
// hierarchies.
func New(opts Options) (*Runtime, error) {
	if !filepath.IsAbs(opts.ExecRoot) || !filepath.IsAbs(opts.CgroupParent) {
		return nil, fmt.Errorf("runtime: exec root %q and cgroup parent %q have to be absolute", opts.ExecRoot, opts.CgroupParent)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	tree, err := cgroup.Current()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.ExecRoot, 0o700); err != nil {
		return nil, fmt.Errorf("make exec root: %w", err)
	}
	bin, err := sealedBinary(opts.ShimPath, sealedName, 0o111)
	if err != nil {
		return nil, err
	}
	oom, err := tree.WatchOOM()
	if err != nil {
		bin.Close()
		return nil, err
	}
	return &Runtime{opts: opts, log: opts.Logger, tree: tree, oom: oom, shim: bin, left: newLeftovers(), patience: patience}, nil
}

// Close gives back what New took. Containers go on.
func (r *Runtime) Close() error {
	r.expected.close()
	r.left.end()
	r.initOnce.Do(func() { r.initErr = os.ErrClosed })
	if r.init != nil {
		r.init.Close()
	}
	r.forkerMu.Lock()
	defer r.forkerMu.Unlock()
	if r.forker != nil {
		r.forker.Close()
	}
	return errors.Join(r.oom.Close(), r.shim.Close())
}

// initBinary is the binary as the container's init. Each caller gets a
// descriptor of its own.
func (r *Runtime) initBinary() (*os.File, error) {
	r.initOnce.Do(func() { r.init, r.initErr = sealedBinary(r.opts.ShimPath, "porthole-init", 0o555) })
	if r.initErr != nil {
		return nil, r.initErr
	}
	return dup(r.init)
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// ValidID tells whether a container can have the ID.
func ValidID(id string) bool { return idPattern.MatchString(id) }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// Create brings a container to the point where [Container.Start] lets its program
// be executed: the shim runs, limits are set, namespaces are there, and the stage
// has all that it needs. What it mounts may be under way; a failure of that is
// told by Start. On error nothing is left behind. An error about the
// bundle is a [*StartError], one about the user namespace wraps
// [*UnmappableError].
func (r *Runtime) Create(ctx context.Context, b Bundle) (*Container, error) {
	if !idPattern.MatchString(b.ID) {
		return nil, invalid("container id %q is not usable", b.ID)
	}
	cr, steps := r.begun(ctx, &b)
	if err := cr.run(steps); err != nil {
		if cr.shimEnded() || endedEarly(err) {
			err = cr.c.shortOfPids(err)
		}
		cr.undo()
		return nil, fmt.Errorf("create container %s: %w", b.ID, err)
	}
	cr.steps.Keep()
	cr.close()
	go cr.c.follow()
	return cr.c, nil
}

func (r *Runtime) fail(step string) error {
	if r.failAt == nil {
		return nil
	}
	return r.failAt(step)
}

// creation is one call of Create, or of Expect and Create.
type creation struct {
	r     *Runtime
	ctx   context.Context // lives as long as the call
	b     *Bundle
	c     *Container
	steps undo.Stack
	begin time.Time

	compiled  *compiled
	listener  *net.UnixListener
	dirs      [2]*os.File
	shimPid   int
	planFiles []*os.File
}

// step is one step of a creation.
type step struct {
	name string
	run  func() error
}

func (r *Runtime) newCreation(ctx context.Context, b *Bundle) *creation {
	c := r.newContainer(b.ID, b.StateDir, b.LogDir)
	c.ids, c.terminal = b.IDs, b.Terminal
	if p := b.Spec; p != nil && p.Linux != nil && strings.HasPrefix(p.Linux.CgroupsPath, "/") {
		c.group = r.tree.Group(p.Linux.CgroupsPath)
	}
	return &creation{r: r, ctx: ctx, b: b, c: c, begin: time.Now()}
}

// early are the steps that need nothing of the host but our own.
func (cr *creation) early() []step {
	return []step{{"compile", cr.compile}, {"directories", cr.directories}, {"cgroup", cr.cgroup}, {"shim", cr.startShim}}
}

// late are the steps after them.
func (cr *creation) late() []step {
	return []step{{"files", cr.files}, {"connect", cr.connect}, {"stage", cr.stage}, {"process limits", cr.limits}}
}

func (cr *creation) run(steps []step) error {
	for _, s := range steps {
		if err := cr.r.fail(s.name); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := s.run(); err != nil {
			return err
		}
		cr.lap(s.name)
	}
	return nil
}

// undo takes back all that was done, now or, what that fails of, later.
func (cr *creation) undo() {
	cr.close() // to take back needs descriptors, which may be what is lacking
	if err := cr.steps.Run(); err != nil {
		cr.r.log.Error("container was not taken back whole, that is tried again", "container", cr.b.ID, "err", err)
		cr.r.left.removeLater(cr.c)
	}
}

// close closes what only the creation needs, however it ended.
func (cr *creation) close() {
	closeFiles(cr.planFiles)
	closeFiles(cr.dirs[:])
	if cr.listener != nil {
		cr.listener.Close()
	}
}

func (cr *creation) lap(name string) {
	now := time.Now()
	cr.c.timings = append(cr.c.timings, plan.Timing{Name: name, Microseconds: now.Sub(cr.begin).Microseconds()})
	cr.begin = now
}

func (cr *creation) compile() (err error) {
	comp := &compiler{b: cr.b, group: cr.c.group, tree: cr.r.tree, hardLimit: hardLimit, filters: &cr.r.filters}
	cr.compiled, err = comp.compile()
	if err != nil {
		return err
	}
	cr.c.plan, cr.c.planFormat = cr.compiled.plan, plan.Format // the shim is of this build
	cr.c.labels = cr.b.Labels
	return nil
}

// Plan tells by which plan [Runtime.Create] would start a container, and does nothing
// of it. The bundle needs no root filesystem and no directories. What the plan says
// of files is without what only opening them tells: whether a mount is of a file.
func (r *Runtime) Plan(b Bundle) (*plan.Plan, error) {
	cr := r.newCreation(context.Background(), &b)
	if err := cr.compile(); err != nil {
		return nil, fmt.Errorf("plan container %s: %w", b.ID, err)
	}
	return cr.c.plan, nil
}

func hardLimit(resource int) uint64 {
	var l unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &l); err != nil {
		return 0
	}
	return l.Max
}

// directories makes what the shim works in. State and log belong to the
// container's root; the run directory, with the socket, to the host's.
func (cr *creation) directories() error {
	if err := cr.r.left.removeNow(cr.ctx, cr.b.ID); err != nil {
		return err
	}
	run := cr.c.runDir
	if err := os.Mkdir(run, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	cr.steps.Add(func() error { return os.RemoveAll(run) })
	for i, dir := range []string{cr.b.StateDir, cr.b.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make directory of the shim: %w", err)
		}
		f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return fmt.Errorf("open directory of the shim: %w", err)
		}
		cr.dirs[i] = f
		if err := f.Chown(int(cr.b.IDs.Host), int(cr.b.IDs.Host)); err != nil {
			return fmt.Errorf("give directory to the shim: %w", err)
		}
	}
	if err := shim.RemoveExit(cr.dirs[0]); err != nil {
		return err
	}
	l, err := wire.Listen(filepath.Join(run, socketName))
	if err != nil {
		return err
	}
	cr.listener = l
	return nil
}

const socketName = "shim.sock"

func (cr *creation) cgroup() error {
	g := cr.c.group
	warnings, err := g.Create(cr.c.limited(cr.b.Spec.Linux.Resources))
	if err != nil {
		return &StartError{Step: "cgroup", Message: err.Error(), err: err}
	}
	for _, w := range warnings {
		cr.c.warnings = append(cr.c.warnings, string(w))
	}
	cr.steps.Add(func() error {
		ctx, cancel := cleanup()
		defer cancel()
		return errors.Join(g.Kill(ctx), g.Destroy(ctx))
	})
	return g.Delegate(cr.b.IDs.Host, cr.b.IDs.Host)
}

// limited gives a container that has no limit of its processes that of the runtime.
func (c *Container) limited(in *specs.LinuxResources) *specs.LinuxResources {
	most := c.r.opts.Pids.Of(filepath.Dir(c.group.Path()), c.r.opts.CgroupParent)
	if most == 0 || in != nil && in.Pids != nil && in.Pids.Limit != nil && *in.Pids.Limit > 0 {
		return in
	}
	var out specs.LinuxResources
	if in != nil {
		out = *in
	}
	limit := int64(most)
	out.Pids = &specs.LinuxPids{Limit: &limit}
	return &out
}

// SetLimits changes the limits that are given, all or none of them, and returns how to take that back, which may be called
// once. A limit of processes that is lifted becomes that of the runtime.
func (c *Container) SetLimits(limits *specs.LinuxResources) (undo func() error, warnings []cgroup.Warning, err error) {
	if limits.Pids != nil {
		limits = c.limited(limits)
	}
	return c.group.Update(limits)
}

// cleanup is the context of what has to be taken back whatever happened.
func cleanup() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), cleanupTime)
}

const cleanupTime = 10 * time.Second

// startShim starts the shim: in a user namespace of its own, which becomes the
// container's, or in that of the container whose namespaces are joined.
func (cr *creation) startShim() error {
	listener, err := cr.listener.File()
	if err != nil {
		return fmt.Errorf("pass shim's socket: %w", err)
	}
	defer listener.Close()
	files := []*os.File{listener, cr.dirs[0], cr.dirs[1]}
	if other := cr.joined(); other != nil && cr.b.IDs.Size > 0 {
		if other.ids != cr.b.IDs {
			return invalid("container %s and container %s, whose namespaces it joins, have different id ranges", cr.b.ID, other.id)
		}
		if cr.shimPid, err = other.spawn(cr.ctx, files); err == nil {
			// It must not end with the other's group, nor could it put processes
			// into this one from there.
			err = cr.c.group.Add(cr.shimPid, cgroup.Shims)
		}
	} else {
		cr.shimPid, err = cr.forkShim(files)
	}
	// As long as this process has the listener open, too, a shim that has ended could not be told from one that is slow.
	cr.listener.Close()
	cr.listener = nil
	pid := cr.shimPid
	if pid != 0 {
		cr.steps.Add(func() error {
			// Not reaped by its id: the watcher does, or its real parent.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return err
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	cr.c.shimProcess = identify(pid)
	cr.protect(pid)
	return nil
}

// joined is a container whose namespaces are joined, nil if there is none.
func (cr *creation) joined() *Container {
	for _, other := range cr.b.Join {
		if other != nil {
			return other
		}
	}
	return nil
}

// forkShim has the shim forked right into its cgroups: by the forker where a user
// namespace is to begin, else by this process, whose vfork costs nothing.
func (cr *creation) forkShim(files []*os.File) (int, error) {
	r, ids := cr.r, cr.b.IDs
	entrance, err := cr.c.group.Entrance(cgroup.Shims)
	if err != nil {
		return 0, err
	}
	defer entrance.Close()
	req := forker.Request{Host: ids.Host, Size: ids.Size, Tasks: len(entrance.Tasks), Dir: entrance.Dir != nil}
	if !cr.joinsPID() {
		req.Stage = &forker.Stage{Flags: cr.compiled.cloneFlags}
		dir, err := cr.c.groupDir(cgroup.App)
		if err != nil {
			return 0, err
		}
		if dir != nil {
			defer dir.Close()
			req.Stage.Cgroup = true
			files = append(files, dir)
		}
	}
	files = slices.Concat(files, entrance.Files())
	if ids.Size > 0 {
		pid, err := r.forkElsewhere(req, files)
		if !errors.Is(err, forker.ErrGone) {
			return pid, err
		}
		r.log.Warn("the forker has ended: forking here", "err", err)
	}
	return forker.Fork("/proc/self/fd/"+strconv.Itoa(int(r.shim.Fd())), req, files)
}

// forkElsewhere uses the forker, which is started when it is first needed and
// again when it has ended.
func (r *Runtime) forkElsewhere(req forker.Request, files []*os.File) (int, error) {
	var client *forker.Client
	for range 2 {
		var err error
		if client, err = r.startForker(client); err != nil {
			return 0, fmt.Errorf("%w: %w", forker.ErrGone, err)
		}
		pid, err := client.Fork(req, files)
		if !errors.Is(err, forker.ErrGone) {
			return pid, err
		}
	}
	return 0, forker.ErrGone
}

// startForker returns the forker that runs, or a new one in place of dead.
func (r *Runtime) startForker(dead *forker.Client) (*forker.Client, error) {
	r.forkerMu.Lock()
	defer r.forkerMu.Unlock()
	if r.forker != nil && r.forker == dead {
		r.forker.Close()
		r.forker = nil
	}
	if r.forker == nil {
		client, err := forker.Start(r.shim)
		if err != nil {
			return nil, err
		}
		r.forker = client
	}
	return r.forker, nil
}

// protect keeps the kernel from choosing the shim when memory runs out. Without
// CAP_SYS_RESOURCE the score cannot go below where it is; then it stays.
func (cr *creation) protect(pid int) {
	name := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	if err := os.WriteFile(name, []byte("-999"), 0); err != nil {
		cr.r.log.Debug("shim is not protected from the OOM killer", "container", cr.b.ID, "err", err)
	}
}

func (cr *creation) files() error {
	p := &preparer{r: cr.r, bundle: cr.b}
	if cr.b.IDs.Size > 0 {
		userns, err := ns.Open(cr.shimPid, ns.User)
		if err != nil {
			return fmt.Errorf("open user namespace: %w", err)
		}
		defer userns.Close()
		p.userns = userns
	}
	files, err := p.prepare(cr.compiled)
	if err != nil {
		return err
	}
	cr.planFiles = files
	return nil
}

func (cr *creation) connect() error {
	client, err := wire.Dial(filepath.Join(cr.c.runDir, socketName))
	if err != nil {
		return err
	}
	cr.c.client = client
	cr.steps.Add(client.Close)
	return nil
}

// stage has the shim start the stage and waits until that waits.
// It also records what a later daemon needs to adopt the container.
func (cr *creation) stage() (err error) {
	raw, err := cr.c.plan.Encode(cr.c.planFormat)
	if err != nil {
		return err
	}
	spec := wire.StartSpec{
		CloneFlags: cr.compiled.cloneFlags,
		Plan:       raw,
		Args:       cr.b.Spec.Process.Args,
		Terminal:   cr.b.Terminal,
		Size:       wire.Size{Height: cr.b.ConsoleSize[0], Width: cr.b.ConsoleSize[1]},
		OpenStdin:  cr.b.OpenStdin,
		StdinOnce:  cr.b.StdinOnce,
		Log:        cr.b.Log,
	}
	var files []*os.File
	if dir, err := cr.c.groupDir(cgroup.App); err != nil {
		return err
	} else if dir != nil {
		defer dir.Close()
		spec.IntoCgroup = true
		files = append(files, dir)
	}
	if cr.joinsPID() {
		f, err := cr.pidNS(cr.b.Join[specs.PIDNamespace])
		if err != nil {
			return err
		}
		defer f.Close()
		spec.JoinPID = true
		files = append(files, f)
	}
	// Written meanwhile: the record is needed by the next daemon only.
	saved := make(chan error, 1)
	go func() { saved <- cr.c.save() }()
	defer func() { err = cmp.Or(err, <-saved) }()
	var created wire.Created
	if _, err := cr.c.shim().Call(cr.ctx, wire.MethodCreate, spec, &created, append(files, cr.planFiles...)...); err != nil {
		return startError(cr.c.plan, err)
	}
	cr.c.pid = created.PID
	return nil
}

// joinsPID says whether the process is born in a pid namespace that is there.
func (cr *creation) joinsPID() bool {
	return cr.b.Join[specs.PIDNamespace] != nil || cr.compiled.pidNS != ""
}

func (cr *creation) pidNS(other *Container) (*os.File, error) {
	if other != nil {
		return other.namespace(ns.PID)
	}
	return os.Open(cr.compiled.pidNS)
}

// groupDir opens the directory of a sub-group on the v2 tree, nil if there is
// no such tree. Processes are born into it; the stage enters the v1 groups by
// itself (plan.OpCgroup).
func (c *Container) groupDir(sub cgroup.Sub) (*os.File, error) {
	dir := c.group.Dir(sub)
	if dir == "" {
		return nil, nil
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return f, nil
}

// limits sets what only the daemon may set for the waiting process.
func (cr *creation) limits() error {
	if err := setPriorities(cr.c.pid, cr.b.Spec.Process); err != nil {
		return err
	}
	return setProcessLimits(cr.c.pid, cr.compiled.rlimits, cr.b.Spec.Process.OOMScoreAdj)
}

func raiseHard(pid, resource int, hard uint64) error {
	var have unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &have); err != nil {
		return err
	}
	return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: have.Cur, Max: hard}, nil)
}

// setProcessLimits raises hard resource limits and sets the OOM score. The soft ones are
// for the stage, which has things to do before it can live with a low one. The score is
// always set, since the stage has inherited the shim's.
func setProcessLimits(pid int, raised []plan.Rlimit, score *int) error {
	for _, l := range raised {
		if err := raiseHard(pid, l.Resource, l.Hard); err != nil {
			return &StartError{
				Step: "rlimit " + l.Name, Op: plan.OpRlimit, Errno: errnoOf(err), err: err,
				Message: fmt.Sprintf("error setting rlimit type %d: %v", l.Resource, err),
			}
		}
	}
	want := 0
	if score != nil {
		want = *score
	}
	name := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	have, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d was killed before its program was started", pid)
	}
	if err != nil {
		return fmt.Errorf("read OOM score of process %d: %w", pid, err)
	}
	if strings.TrimSpace(string(have)) == strconv.Itoa(want) {
		return nil
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(want)), 0); err != nil {
		return &StartError{
			Step: "oom score", Errno: errnoOf(err), err: err,
			Message: fmt.Sprintf("write oom_score_adj %d: %v", want, errnoOf(err)),
		}
	}
	return nil
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// startError makes the shim's answer the error of a start: the step's operation
// is looked up in the plan.
func startError(p *plan.Plan, err error) error {
	var we *wire.Error
	if !errors.As(err, &we) || we.Step == "" {
		return err
	}
	e := &StartError{Step: we.Step, Errno: we.Errno, Path: we.Path, Message: we.Message, err: err}
	for _, s := range p.Steps {
		if s.Name == we.Step {
			e.Op = s.Op
		}
	}
	return e
}
