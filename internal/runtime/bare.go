package runtime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/sys"
	"github.com/portholehq/porthole/internal/undo"
)

// Bare is a container without a shim, as the OCI runtime's command line has it: its
// first process is a child of the one who creates it, and becomes that of whoever
// collects orphans above. It waits at a socket to be started by somebody else.
//
// It is isolated by the same plan as any other, but for this: owners of files are not
// mapped, because whoever made the root filesystem has seen to that; and nothing is
// ready before all is arranged, so that [Runtime.CreateBare] tells every error.
type Bare struct {
	// ID names the container in errors and in the name of its keyring.
	ID string
	// Spec is the document. Process may be nil, or without arguments: then the
	// container can be created and not started. The paths in it are absolute.
	Spec *specs.Spec
	// Cgroup is the container's.
	Cgroup *cgroup.Group
	// Rendezvous is a listening unix socket, at which the process waits for
	// [StartBare]. It stays the caller's.
	Rendezvous *os.File
	// Stdio becomes the process's standard streams, unless it has a terminal.
	Stdio [3]*os.File
	// Keep becomes the process's descriptors 3 and following.
	Keep []*os.File
	// Console takes the master of the terminal, which is closed afterwards. It is
	// required if Process.Terminal.
	Console func(master *os.File) error
	// Held is called with the host's pid of the process when its namespaces are there and
	// its root is not yet taken, if the document has hooks for that point. What it
	// returns is for the stage: hook.Orders as JSON, or nil.
	Held func(pid int) ([]byte, error)
}

// CreateBare makes a container without a shim and returns the host's pid of its first
// process, which waits to be started, and what could not be done as asked. On error
// nothing is left behind; errors are as those of [Runtime.Create].
func (r *Runtime) CreateBare(bare *Bare) (pid int, warnings []string, err error) {
	cr, err := r.newBareCreation(bare)
	if err != nil {
		return 0, nil, fmt.Errorf("create container %s: %w", bare.ID, err)
	}
	defer cr.close()
	if err := cr.run(); err != nil {
		if back := cr.steps.Run(); back != nil {
			err = errors.Join(err, fmt.Errorf("take back: %w", back))
		}
		return 0, nil, fmt.Errorf("create container %s: %w", bare.ID, err)
	}
	cr.steps.Keep()
	return cr.pid, cr.warnings, nil
}

// bareCreation is one call of CreateBare.
type bareCreation struct {
	r        *Runtime
	bare     *Bare
	b        *Bundle
	steps    undo.Stack
	compiled *compiled
	warnings []string
	files    []*os.File // of the plan
	conn     *wire.Conn
	pid      int
}

func (r *Runtime) newBareCreation(bare *Bare) (*bareCreation, error) {
	if !idPattern.MatchString(bare.ID) {
		return nil, invalid("container id %q is not usable", bare.ID)
	}
	s := *bare.Spec
	if s.Root == nil || s.Root.Path == "" {
		return nil, invalid("the document names no root filesystem")
	}
	if s.Linux == nil {
		return nil, unsupported("a document without a linux part is not supported: a container needs a mount namespace")
	}
	process := specs.Process{}
	if s.Process != nil {
		process = *s.Process
	}
	process.User.Username = "" // which is another system's
	s.Process = &process
	b := &Bundle{
		ID: bare.ID, Spec: &s, RootFS: Layers{Base: s.Root.Path, Lower: []string{s.Root.Path}},
		Terminal: process.Terminal, bare: bare,
	}
	if size := process.ConsoleSize; size != nil {
		b.ConsoleSize = [2]uint16{uint16(size.Height), uint16(size.Width)}
	}
	if slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }) {
		if len(s.Linux.UIDMappings) == 0 || len(s.Linux.GIDMappings) == 0 {
			return nil, invalid("a user namespace needs uidMappings and gidMappings")
		}
		b.IDs = IDRange{Host: mapped(s.Linux.UIDMappings, 0), Size: s.Linux.UIDMappings[0].Size}
	} else if len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0 {
		return nil, invalid("uidMappings and gidMappings need a user namespace")
	}
	return &bareCreation{r: r, bare: bare, b: b}, nil
}

// overflowID is what an id without a mapping shows as, see user_namespaces(7).
const overflowID = 65534

// mapped is the host's id of a container's.
func mapped(list []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID
		}
	}
	return overflowID
}

func (cr *bareCreation) run() error {
	for _, step := range []func() error{cr.compile, cr.cgroup, cr.fork, cr.prepare, cr.converse, cr.limits} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (cr *bareCreation) close() {
	for i, s := range cr.sources() {
		if s.kind != sourceGiven && i < len(cr.files) {
			cr.files[i].Close()
		}
	}
	if cr.conn != nil {
		cr.conn.Close()
	}
}

func (cr *bareCreation) sources() []source {
	if cr.compiled == nil {
		return nil
	}
	return cr.compiled.sources
}

func (cr *bareCreation) compile() (err error) {
	c := &compiler{b: cr.b, group: cr.bare.Cgroup, tree: cr.r.tree, hardLimit: hardLimit, filters: &cr.r.filters}
	cr.compiled, err = c.compile()
	return err
}

func (cr *bareCreation) cgroup() error {
	g := cr.bare.Cgroup
	warnings, err := g.Create(cr.b.Spec.Linux.Resources)
	if err != nil {
		return &StartError{Step: "cgroup", Message: err.Error(), err: err}
	}
	for _, w := range warnings {
		cr.warnings = append(cr.warnings, string(w))
	}
	cr.steps.Add(func() error {
		ctx, cancel := cleanup()
		defer cancel()
		return errors.Join(g.Kill(ctx), g.Destroy(ctx))
	})
	return nil
}

// fork starts the stage as a child of this process.
func (cr *bareCreation) fork() error {
	f := &bareFork{r: cr.r, group: cr.bare.Cgroup, flags: cr.compiled.cloneFlags, joined: cr.compiled.joined}
	if slices.Contains(cr.compiled.fresh, ns.User) {
		f.uids, f.gids = sysMappings(cr.b.Spec.Linux.UIDMappings), sysMappings(cr.b.Spec.Linux.GIDMappings)
	}
	if slices.Contains(cr.compiled.fresh, ns.Time) {
		f.time, f.offsets = true, cr.b.Spec.Linux.TimeOffsets
	}
	proc, conn, err := f.fork()
	if err != nil {
		return err
	}
	cr.pid, cr.conn = proc.Pid, conn
	cr.steps.Add(func() error { return endChild(proc) })
	return nil
}

// endChild ends a stage and collects it.
func endChild(proc *os.Process) error {
	if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_, err := proc.Wait()
	return err
}

func (cr *bareCreation) prepare() (err error) {
	p := &preparer{r: cr.r, bundle: cr.b}
	cr.files, err = p.prepare(cr.compiled)
	return err
}

// converse hands the plan over and does what the stage asks for, until it is ready.
func (cr *bareCreation) converse() error {
	talk := &stageTalk{conn: cr.conn, plan: cr.compiled.plan, console: cr.bare.Console, held: func() ([]byte, error) { return cr.bare.Held(cr.pid) }}
	return talk.untilReady(cr.bare.Stdio, cr.files)
}

func (cr *bareCreation) limits() error {
	if err := setPriorities(cr.pid, cr.b.Spec.Process); err != nil {
		return err
	}
	return setProcessLimits(cr.pid, cr.compiled.rlimits, cr.b.Spec.Process.OOMScoreAdj)
}

// stageTalk is what the creator of a process and its stage say to each other, drawn in
// internal/shim/wire/stage.go.
type stageTalk struct {
	conn    *wire.Conn
	plan    *plan.Plan
	console func(master *os.File) error
	held    func() ([]byte, error)
}

func (t *stageTalk) untilReady(stdio [3]*os.File, files []*os.File) error {
	raw, err := t.plan.Encode(plan.Format)
	if err != nil {
		return err
	}
	if err := t.conn.SendWord(wire.StagePlan, raw, slices.Concat(stdio[:], files)...); err != nil {
		return err
	}
	for {
		word, files, err := t.conn.RecvWord()
		if err == nil && word.Name == wire.StageReady {
			closeFiles(files)
			return nil
		}
		if err = t.answer(word, files, err); err != nil {
			return err
		}
	}
}

// answer does what one word asks for. It closes files.
func (t *stageTalk) answer(word wire.Word, files []*os.File, err error) error {
	defer closeFiles(files)
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the stage ended early")
	case err != nil:
		return err
	case word.Name == wire.StagePTY && len(files) == 1 && t.console != nil:
		return t.console(files[0])
	case word.Name == wire.StageHold && t.held != nil:
		orders, err := t.held()
		if err != nil {
			return err
		}
		return t.conn.SendWord(wire.StageGo, orders)
	}
	return t.refusal(word)
}

// refusal makes an error of what came in place of an expected word.
func (t *stageTalk) refusal(word wire.Word) error {
	if word.Name != wire.StageFailed {
		return fmt.Errorf("unexpected word %q from the stage", word.Name)
	}
	var e wire.Error
	if err := json.Unmarshal(word.Payload, &e); err != nil {
		return fmt.Errorf("failure of the stage: %w", err)
	}
	return startError(t.plan, &e)
}

// release lets the stage go on and returns when it has become the program.
func (t *stageTalk) release(orders []byte) error {
	if err := t.conn.SendWord(wire.StageGo, orders); err != nil {
		return err
	}
	for told := false; ; {
		word, files, err := t.conn.RecvWord()
		closeFiles(files)
		switch {
		case errors.Is(err, io.EOF) && told:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the stage ended early")
		case err != nil:
			return err
		case word.Name == wire.StageTimings:
			told = true
		default:
			return t.refusal(word)
		}
	}
}

// ErrNotWaiting means that nothing waits at a rendezvous (any more).
var ErrNotWaiting = errors.New("the container is not waiting to be started")

// StartBare lets the process that waits at the socket execute its program, after the
// hooks that come as orders (hook.Orders as JSON, or nil). The error is [ErrNotWaiting]
// if there is none; after any other the process ends.
func StartBare(socket string, orders []byte) error {
	conn, err := wire.DialStage(socket)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return ErrNotWaiting
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	talk := &stageTalk{conn: conn, plan: &plan.Plan{}}
	return talk.release(orders)
}

// bareFork starts a stage as a child of this process.
type bareFork struct {
	r      *Runtime
	group  *cgroup.Group
	flags  uintptr // CLONE_NEW*
	joined []joinedNS
	// uids and gids are the mappings of a new user namespace; nil: there is none.
	uids, gids []syscall.SysProcIDMap
	// time says that there is a new time namespace, whose clocks are apart by offsets.
	time    bool
	offsets map[string]specs.LinuxTimeOffset
}

func (f *bareFork) fork() (*os.Process, *wire.Conn, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := wire.NewStageConn(pair[0]), os.NewFile(uintptr(pair[1]), "stage")
	defer theirs.Close()
	attr := &os.ProcAttr{
		Env: []string{"GOMAXPROCS=1"}, Dir: "/", Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Cloneflags: f.flags},
	}
	if f.uids != nil {
		attr.Sys.Cloneflags |= unix.CLONE_NEWUSER
		attr.Sys.UidMappings, attr.Sys.GidMappings, attr.Sys.GidMappingsEnableSetgroups = f.uids, f.gids, true
		attr.Sys.Credential = &syscall.Credential{}
	}
	var into *os.File
	if dir := f.group.Dir(cgroup.App); dir != "" {
		into, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			ours.Close()
			return nil, nil, fmt.Errorf("open cgroup: %w", err)
		}
		defer into.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(into.Fd())
	}
	proc, err := f.start(attr, into)
	if err != nil {
		ours.Close()
		return nil, nil, fmt.Errorf("start stage: %w", err)
	}
	return proc, ours, nil
}

// start forks on a thread that has entered what is joined.
func (f *bareFork) start(attr *os.ProcAttr, into *os.File) (proc *os.Process, err error) {
	var entries []ns.Entry
	defer func() {
		for _, e := range entries {
			e.File.Close()
		}
	}()
	var alone []sys.Joining // what the process enters by itself, that of users last
	for _, j := range f.joined {
		file, err := openNamespace(j)
		if err != nil {
			return nil, err
		}
		switch j.kind {
		case ns.User, ns.Time:
			defer file.Close()
			alone = append(alone, sys.Joining{File: file, Flag: int(j.kind.Flag())})
		default:
			entries = append(entries, ns.Entry{Kind: j.kind, File: file})
		}
	}
	slices.SortFunc(alone, func(a, b sys.Joining) int { return cmp.Compare(a.Flag, b.Flag) }) // CLONE_NEWTIME is the lower
	err = ns.Do(entries, func() (err error) {
		if f.time {
			if err := newTime(f.offsets); err != nil {
				return err
			}
		}
		program, args := "/proc/self/fd/"+strconv.Itoa(int(f.r.shim.Fd())), []string{"porthole-stage"}
		if len(alone) > 0 {
			proc, err = sys.ForkIn(program, args, attr.Env, f.flags, alone, attr.Files, into)
			return err
		}
		proc, err = os.StartProcess(program, args, attr)
		return err
	})
	return proc, err
}

// openNamespace opens a namespace by its path, and makes sure that it is one of the
// right kind: setns would tell that by an errno alone.
func openNamespace(j joinedNS) (*os.File, error) {
	f, err := os.Open(j.path)
	if err != nil {
		return nil, fmt.Errorf("open %s namespace: %w", j.kind, err)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || uintptr(kind) != j.kind.Flag() {
		f.Close()
		return nil, invalid("%q is no %s namespace", j.path, j.kind)
	}
	return f, nil
}

// newTime has the children of the calling thread born in a new time namespace.
func newTime(offsets map[string]specs.LinuxTimeOffset) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make time namespace: %w", err)
	}
	var text []byte
	for clock, o := range offsets {
		text = fmt.Appendf(text, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
	}
	if len(text) == 0 {
		return nil
	}
	// By this number the kernel finds the thread; below /proc/thread-self the file is missing.
	if err := os.WriteFile("/proc/"+strconv.Itoa(unix.Gettid())+"/timens_offsets", text, 0); err != nil {
		return fmt.Errorf("set timeOffsets: %w", err)
	}
	return nil
}
