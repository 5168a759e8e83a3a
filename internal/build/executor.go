package build

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/image"
	overlay "github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/undo"
)

// defaultHostname is BuildKit's: layers must not depend on the step's ID.
const defaultHostname = "buildkitsandbox"

// stepExecutor runs BuildKit's processes as steps.
type stepExecutor struct {
	b      *Builder
	runner step.Runner
	base   string // all layers are below

	shared *runningIDs
	// name is what the step is called; empty for what no instruction asked for.
	name   string
	vertex digest.Digest
	// platform is what its programs are for; nil: this machine.
	platform *pb.Platform
	roots    *rootKeeper   // nil without vertex
	hook     *debugSession // nil unless the build is debugged
}

// runningIDs finds the step that BuildKit knows by an id of its own.
type runningIDs struct {
	mu  sync.Mutex
	ids map[string]*runningID
}

type runningID struct {
	step    string
	started chan struct{}
	done    chan struct{}
}

func newExecutor(b *Builder, o Options) *stepExecutor {
	return &stepExecutor{
		b: b, runner: o.Runner, base: o.Store.Layers,
		shared: &runningIDs{ids: map[string]*runningID{}},
	}
}

// of is the executor for the step of a vertex.
func (x *stepExecutor) of(v solver.Vertex, roots *rootKeeper, hook *debugSession) *stepExecutor {
	named := *x
	named.name, named.vertex, named.roots, named.hook = v.Name(), v.Digest(), roots, hook
	if op, ok := v.Sys().(*pb.Op); ok {
		named.platform = op.Platform
	}
	return &named
}

// Run runs a process in a root file system; see [executor.Executor].
func (x *stepExecutor) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (_ resourcestypes.Recorder, err error) {
	begun := sync.OnceFunc(func() {
		if started != nil {
			close(started)
		}
	})
	defer begun()
	if err := runnable(x.platform); err != nil {
		return nil, err
	}
	s := &step.Step{ID: newStepID(), Name: x.keptName()}
	if s.Name == "" {
		s.Name = strings.Join(p.Meta.Args, " ")
	}
	leave, running := x.shared.enter(id, s.ID)
	defer leave()
	var cleanup undo.Stack
	defer func() { err = errors.Join(err, cleanup.Run()) }()
	if s.RootFS, err = x.rootFS(ctx, root, &cleanup); err != nil {
		return nil, err
	}
	for _, m := range mounts {
		sm, err := x.mount(ctx, m, &cleanup)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		s.Mounts = append(s.Mounts, sm)
	}
	if err := describe(s, root, p); err != nil {
		return nil, err
	}
	x.b.trim()
	s.LogDir = filepath.Join(x.b.logsDir(), s.ID)
	clean, err := stubs(s)
	if err != nil {
		return nil, err
	}
	cleanup.Add(clean)
	for _, w := range x.watchers().of(x.vertex) {
		w.running(s.ID)
		s.Process.Stdout, s.Process.Stderr = alsoTo(s.Process.Stdout, w), alsoTo(s.Process.Stderr, w)
	}
	recorded := x.vertex
	if x.hook != nil {
		recorded = "" // a build that is debugged is in no history
	}
	x.b.recordings.started(recorded, s)
	exit, err := x.run(ctx, s, p.Meta.ValidExitCodes, func() { close(running.started); begun() })
	if err != nil {
		if x.roots != nil && x.hook == nil && ctx.Err() == nil {
			place := x.roots.failed(neverRan)
			tellState(s, cmp.Or(place, "The step"), "could not be run")
		}
		return nil, stepError(ctx, err)
	}
	x.b.recordings.ended(recorded, exit)
	err = exitError(exit, p.Meta.ValidExitCodes)
	if err != nil && x.roots != nil && ctx.Err() == nil {
		place := x.roots.failed(exit.Code)
		tellState(s, cmp.Or(place, "The step"), fmt.Sprintf("ended with exit code %d", exit.Code))
	}
	return nil, err
}

// keptName is the name without secrets: it goes into events and death records.
func (x *stepExecutor) keptName() string {
	if x.hook != nil { // it is in no recording
		return newMasker(x.hook.attrs).text(x.name)
	}
	return x.b.recordings.masked(x.vertex, x.name)
}

func (x *stepExecutor) watchers() *watchers {
	if x.roots != nil {
		return x.roots.watchers
	}
	return &x.b.watchers
}

// run runs a step, by the debugger if there is one.
func (x *stepExecutor) run(ctx context.Context, s *step.Step, valid []int, started func()) (step.Exit, error) {
	if x.hook == nil {
		return x.runner.RunStep(ctx, s, started)
	}
	fails := func(exit step.Exit) bool { return exitError(exit, valid) != nil }
	return x.hook.runStep(ctx, x.runner, s, fails, sync.OnceFunc(started))
}

// neverRan is the exit code that stands for a process which could not be
// executed, as a shell has it.
const neverRan = 127

// tellState tells whoever reads the output of a step that failed how to look at
// what it has left.
func tellState(s *step.Step, place, how string) {
	if s.Process.Stderr == nil {
		return
	}
	id := shortID(s.ID)
	_, _ = fmt.Fprintf(s.Process.Stderr, "%s %s. Enter what it has left with:\n  %s\nWhat was there before it is step:%s-before. Without a shell: porthole debug step:%s\n",
		place, how, EnterCommand(s.ID), id, id) // a client that is gone
}

// EnterCommand is the command that starts a shell in the state that a step has
// led to.
func EnterCommand(stepID string) string {
	return "porthole run -it --rm step:" + shortID(stepID) + " sh"
}

func newStepID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}

// enter notes that a step runs.
func (r *runningIDs) enter(id, stepID string) (leave func(), running *runningID) {
	running = &runningID{step: stepID, started: make(chan struct{}), done: make(chan struct{})}
	if id == "" {
		return func() {}, running
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[id] = running
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ids, id)
		close(running.done)
	}, running
}

// Exec runs a process in a step that Run has started; see [executor.Executor].
func (x *stepExecutor) Exec(ctx context.Context, id string, p executor.ProcessInfo) error {
	x.shared.mu.Lock()
	running := x.shared.ids[id]
	x.shared.mu.Unlock()
	if running == nil {
		return fmt.Errorf("container %s not found", id)
	}
	select {
	case <-running.started:
	case <-running.done:
		return fmt.Errorf("container %s has stopped", id)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	process := processOf(p)
	exit, err := x.runner.ExecStep(ctx, running.step, &process)
	if err != nil {
		return stepError(ctx, err)
	}
	return exitError(exit, p.Meta.ValidExitCodes)
}

// rootFS brings a mount of the snapshotter into the runtime's form: the same
// directories, mounted by the step itself.
func (x *stepExecutor) rootFS(ctx context.Context, root executor.Mount, cleanup *undo.Stack) (image.Layers, error) {
	m, err := x.open(ctx, root, false, cleanup)
	switch {
	case err != nil:
		return image.Layers{}, err
	case m.Type == "bind":
		return image.Layers{Base: m.Source, Lower: []string{m.Source}}, nil
	case m.Type == "overlay":
		l, err := x.layers(m)
		if n := len(l.Lower); err == nil && l.Upper != "" && n >= overlay.MaxLower {
			// It would run; what it leads to would not.
			err = fmt.Errorf("max depth exceeded: it would be layer %d, and Linux merges up to %d", n+1, overlay.MaxLower)
		}
		return l, err
	}
	return image.Layers{}, fmt.Errorf("root file system is mounted as %q", m.Type)
}

// layers are the directories of an overlay.
func (x *stepExecutor) layers(m mount.Mount) (image.Layers, error) {
	l := image.Layers{Base: x.base}
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			l.Lower = strings.Split(value, ":")
		case "upperdir":
			l.Upper = value
		case "workdir":
			l.Work = value
		}
	}
	if len(l.Lower) == 0 {
		return l, errors.New("overlay without layers")
	}
	return l, nil
}

// open takes a mount from BuildKit, which gets it back with the cleanup.
func (x *stepExecutor) open(ctx context.Context, m executor.Mount, readonly bool, cleanup *undo.Stack) (mount.Mount, error) {
	ref, err := m.Src.Mount(ctx, readonly)
	if err != nil {
		return mount.Mount{}, err
	}
	list, release, err := withoutPool(ref).Mount()
	if err != nil {
		return mount.Mount{}, err
	}
	if release != nil {
		cleanup.Add(release)
	}
	if len(list) != 1 {
		return mount.Mount{}, fmt.Errorf("%d mounts in one place", len(list))
	}
	return list[0], nil
}

// withoutPool takes away BuildKit's wrapper that mounts a writable overlay on
// the host and gives out binds of it: a step mounts the directories itself, as
// an overlay cannot be ID-mapped and must not be mounted twice. The wrapper's
// type is not exported, but what it wraps is.
func withoutPool(ref executor.MountableRef) executor.MountableRef {
	v := reflect.ValueOf(ref)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct || v.Elem().Type().Name() != "sharableMountable" {
		return ref
	}
	if inner, ok := v.Elem().FieldByName("Mountable").Interface().(executor.MountableRef); ok {
		return inner
	}
	return ref
}

// mount describes one more mount of a step, which mounts it itself.
func (x *stepExecutor) mount(ctx context.Context, m executor.Mount, cleanup *undo.Stack) (step.Mount, error) {
	out := step.Mount{Destination: m.Dest, RW: !m.Readonly}
	first, err := x.open(ctx, m, m.Readonly, cleanup)
	if err != nil {
		return out, err
	}
	switch first.Type {
	case "tmpfs":
		out.Options = first.Options
		return out, nil
	case "overlay":
		// Links in it are followed when it is mounted: here it is not.
		out.Part = m.Selector
		out.Layers, err = x.layers(first)
		return out, err
	case "bind", "rbind":
	default:
		return out, fmt.Errorf("cannot mount file systems of type %q", first.Type)
	}
	out.Source = first.Source
	if m.Selector == "" {
		return out, nil
	}
	// Links are followed here, within the source. Another step may change them
	// in a cache meanwhile, and then finds the way out closed.
	part, err := fs.RootPath(out.Source, m.Selector)
	if err != nil {
		return out, err
	}
	if out.Part, err = filepath.Rel(out.Source, part); err != nil || out.Part == "." {
		out.Part = ""
	}
	return out, err
}

// describe completes a step from what BuildKit says of its process.
func describe(s *step.Step, root executor.Mount, p executor.ProcessInfo) error {
	meta := p.Meta
	s.Process = processOf(p)
	s.ReadonlyRoot = root.Readonly || meta.ReadonlyRootFS
	s.Hostname = meta.Hostname
	if s.Hostname == "" {
		s.Hostname = defaultHostname
	}
	for _, h := range meta.ExtraHosts {
		s.ExtraHosts = append(s.ExtraHosts, h.Host+":"+h.IP.String())
	}
	switch meta.NetMode {
	case pb.NetMode_HOST:
		s.Network = step.NetworkHost
	case pb.NetMode_NONE:
		s.Network = step.NetworkNone
	default:
		s.Network = step.NetworkDefault
	}
	s.Privileged = meta.SecurityMode == pb.SecurityMode_INSECURE
	if len(meta.CDIDevices) > 0 {
		return errors.New("devices of the container device interface are not supported")
	}
	if meta.Proxy != nil {
		return errors.New("steps behind a proxy of the builder are not supported")
	}
	for _, u := range meta.Ulimit {
		s.Resources.Ulimits = append(s.Resources.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if r := meta.LinuxResources; r != nil {
		s.Resources.Memory, s.Resources.MemorySwap = r.Memory, r.MemorySwap
		s.Resources.CPUShares, s.Resources.CPUPeriod, s.Resources.CPUQuota = int64(r.CpuShares), int64(r.CpuPeriod), r.CpuQuota
		s.Resources.CpusetCpus, s.Resources.CpusetMems = r.CpusetCpus, r.CpusetMems
	}
	return nil
}

func processOf(p executor.ProcessInfo) step.Process {
	out := step.Process{
		Args: p.Meta.Args, Env: p.Meta.Env, User: p.Meta.User, Cwd: p.Meta.Cwd, Terminal: p.Meta.Tty, Signals: p.Signal,
	}
	// A nil pointer in an interface is not nil.
	if p.Stdin != nil {
		out.Stdin = p.Stdin
	}
	if p.Stdout != nil {
		out.Stdout = p.Stdout
	}
	if p.Stderr != nil {
		out.Stderr = p.Stderr
	}
	if p.Resize != nil {
		sizes := make(chan step.Size)
		go func() {
			defer close(sizes)
			for size := range p.Resize {
				select {
				case sizes <- step.Size{Height: uint16(size.Rows), Width: uint16(size.Cols)}:
				case <-time.After(time.Second): // the process has ended
				}
			}
		}()
		out.Resize = sizes
	}
	return out
}

// stepError is an error that no exit status tells of.
func stepError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	return err
}

// exitError words a status that means failure as BuildKit wants it.
func exitError(exit step.Exit, valid []int) error {
	if exit.Code == 0 && valid == nil || slices.Contains(valid, exit.Code) {
		return nil
	}
	err := &gatewayapi.ExitError{ExitCode: uint32(exit.Code)}
	if exit.Reason != "" {
		err.Err = &stepFailure{code: exit.Code, reason: exit.Reason}
	}
	return err
}

// stepFailure is a step that failed for a reason that is known.
type stepFailure struct {
	code   int
	reason string
}

func (f *stepFailure) Error() string { return fmt.Sprintf("exit code: %d: %s", f.code, f.reason) }

var _ executor.Executor = (*stepExecutor)(nil)
