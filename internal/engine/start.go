package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/holders"
	linuxmount "github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/undo"
)

// startTimeout bounds the steps of one start, none of which depends on the container's own code.
const startTimeout = 2 * time.Minute

// ContainerStart starts a created or exited container. A running one gives errdefs.ErrNotModified. The start goes on
// when the client goes away.
func (e *Engine) ContainerStart(ctx context.Context, ref string) error {
	return e.startByHand(ctx, "start", ref, func(*view) (*once, error) { return nil, nil })
}

// startByHand starts a container with its own configuration, or with what choose gives for this run alone.
func (e *Engine) startByHand(ctx context.Context, action, ref string, choose func(*view) (*once, error)) error {
	c, done, err := e.operate(ctx, action, ref)
	if err != nil {
		return err
	}
	defer done()
	release, err := c.turn.take(ctx, action)
	if err != nil {
		return err
	}
	defer release()
	v := c.view()
	if err := startable(c, v); err != nil {
		return err
	}
	x, err := choose(v)
	if err != nil {
		return err
	}
	if err := c.updateSaved(func(v *view) { v.startedByHand(); v.runOnce(x) }); err != nil {
		return err
	}
	err = e.start(ctx, c, state.RunStarted)
	if err == nil {
		return nil
	}
	e.giveUpRestart(c)
	c.update(func(v *view) { v.once = nil })
	if x == nil && v.HostConfig.AutoRemove && v.status() == container.StateCreated {
		e.removeLater(c, event.OriginOf(ctx).Follows(), forRm)
	}
	return err
}

// startable checks that a container can be started.
func startable(c *ctr, v *view) error {
	switch {
	case v.status() == container.StatePaused:
		return conflict("cannot start a paused container, try unpause instead")
	case v.status() == container.StateRunning:
		return notModified("container %s is already running", c.id)
	case v.removing || v.status() == container.StateDead || v.status() == container.StateRemoving:
		return conflict("container is marked for removal and cannot be started")
	case v.unadopted != nil:
		return errUnadopted(v)
	}
	return nil
}

// startedByHand has the restart policy begin anew.
func (v *view) startedByHand() {
	v.Life.Stopped, v.noRestart, v.Life.RestartCount, v.restartDelay = false, false, 0, 0
	v.once, v.Life.Once = nil, nil
}

// start makes the container run. The caller has its turn. An error that is the container's own fault is recorded in it.
func (e *Engine) start(ctx context.Context, c *ctr, cause state.RunCause) error {
	return e.startOnce(ctx, c, cause, func() error { return nil })
}

// startOnce is start with something that has to be done before anybody sees anything of the run, or of its failure.
func (e *Engine) startOnce(ctx context.Context, c *ctr, cause state.RunCause, before func() error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), startTimeout, errors.New("the start took too long"))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.setStarting(stop)
	defer c.setStarting(nil)
	if cause == state.RunPolicy && c.view().status() != container.StateRestarting {
		return errStopped // before the start had begun, see endRestarting
	}
	c.cancelRestart()
	select {
	case <-c.view().settled:
	case <-ctx.Done():
		return internal("container %s: what its last run left is not cleared away yet: %v", c.id, context.Cause(ctx))
	}
	c.kills.begin()
	s := &starting{e: e, c: c, v: c.view().asRun(), cause: cause, before: sync.OnceValue(before)}
	defer s.steps.Run() // does nothing after Keep
	err := s.run(ctx)
	if err == nil {
		s.steps.Keep()
		return nil
	}
	err = startFailure(err)
	if undone := s.steps.Run(); undone != nil {
		e.log.Warn("start that failed was not taken back", "container", c.id, "err", undone)
	}
	if s.before() != nil { // nobody is told of the container, nor of its failure
		return err
	}
	finding := e.diagnoseStart(ctx, s, err)
	e.saved(c, c.updateSaved(func(v *view) {
		v.Life.Error, v.Life.ExitCode = err.Error(), exitCodeOf(err)
		v.Life.Begin(cause, event.OriginOf(ctx), time.Time{})
		v.Life.Amend(func(r *state.Run) {
			r.Error, r.ExitCode, r.FinishedAt = v.Life.Error, v.Life.ExitCode, time.Now().UTC()
		})
		v.lastExit = v.Life.ExitCode
	}))
	rec := e.notStarted(c.view(), err)
	rec.StartError.Finding = finding
	e.deaths.add(rec)
	return hinted(err, finding)
}

// setStarting makes a start under way, which has the container's turn, one that can be broken off.
func (c *ctr) setStarting(stop context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starting = stop
}

// cancelStart breaks off a start under way, which may hang on what the container has in its files.
func (c *ctr) cancelStart(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starting != nil {
		c.starting(cause)
	}
}

// starting is one start under way.
type starting struct {
	e         *Engine
	c         *ctr
	v         *view
	cause     state.RunCause
	task      Task
	document  *specs.Spec
	endpoints map[string]*mobynet.EndpointSettings
	published []network.Published
	mounted   bool         // the volumes, and it has been published
	before    func() error // called between create and connect, or when that is not reached; says the same ever after
	steps     undo.Stack
}

func (s *starting) run(ctx context.Context) error {
	if err := s.create(ctx); err != nil {
		return err
	}
	if err := s.before(); err != nil {
		return err
	}
	s.steps.AddFunc(func() { s.withdraw(context.WithoutCancel(ctx)) })
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.mounted = true
	s.e.emitMounts(ctx, s.v)
	waiting := s.c.takePending()
	s.steps.AddFunc(func() { s.c.failPending(waiting) })
	if err := s.attach(ctx, waiting); err != nil {
		return err
	}
	s.e.feedFollowers(ctx, s.c.id, s.task)
	s.e.noteGroup(s.v, s.v.Life.Run+1)
	s.steps.AddFunc(func() { s.e.closeActivity(s.c.id) })
	if denials := s.e.logDenials(s.v, false); denials != nil {
		s.steps.AddFunc(denials.end)
		s.c.denials.Store(denials)
	}
	box := s.e.record(s.v, calltrace.Before)
	s.c.box.Store(box) // also none: that of the last run is gone
	if box != nil {
		s.steps.Add(box.end)
	}
	defer s.c.going()()
	if err := s.task.Start(ctx); err != nil {
		return err
	}
	return s.started(ctx)
}

// withdraw publishes that what a failed start has connected and mounted is so no longer.
func (s *starting) withdraw(ctx context.Context) {
	for _, name := range networkNames(s.v) {
		if s.endpoints[name] != nil {
			s.e.emitNetwork(ctx, s.v, events.ActionDisconnect, name)
		}
	}
	if s.mounted {
		for _, m := range s.v.Mounts {
			s.e.emitUnmount(ctx, s.v, m, nil)
		}
	}
}

// emitMounts publishes that a container's volumes are mounted.
func (e *Engine) emitMounts(ctx context.Context, v *view) {
	for _, m := range v.Mounts {
		if m.Type == mount.TypeVolume {
			e.emitOther(ctx, events.VolumeEventType, events.ActionMount, m.Name, map[string]string{
				"driver": m.Driver, "container": v.ID, "destination": m.Destination,
				"read/write": fmt.Sprint(m.RW), "propagation": string(m.Propagation),
			})
		}
	}
}

// emitUnmount publishes that a mount of a container is gone, if it is that of a volume, and who keeps its file system.
func (e *Engine) emitUnmount(ctx context.Context, v *view, m state.Mount, held []holders.Holder) {
	if m.Type == mount.TypeVolume {
		attributes := map[string]string{"driver": m.Driver, "container": v.ID}
		e.addHolders(attributes, held)
		e.emitOther(ctx, events.VolumeEventType, events.ActionUnmount, m.Name, attributes)
	}
}

// going marks the time in which the program may run already, though the container does not count as running yet.
func (c *ctr) going() (done func()) {
	here := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goes = here
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.goes = nil
		close(here)
	}
}

// awaitGoing waits until a program that may run already has its container count as running. Who has seen its output may
// be that fast.
func (c *ctr) awaitGoing(ctx context.Context) {
	c.mu.Lock()
	goes := c.goes
	c.mu.Unlock()
	if goes == nil {
		return
	}
	select {
	case <-goes:
	case <-ctx.Done():
	}
}

// create has the runtime bring the container to the point where its program could be executed.
func (s *starting) create(ctx context.Context) error {
	if err := s.e.mountVolumes(s.v, s.c.id, &s.steps); err != nil {
		return err
	}
	b, err := s.e.bundle(ctx, s.v)
	if err != nil {
		return err
	}
	s.document = b.Spec
	if s.task, err = s.e.deps.Runtime.Create(ctx, b); err != nil {
		return err
	}
	s.steps.Add(func() error { return s.task.Delete(context.WithoutCancel(ctx)) })
	for _, w := range s.task.Warnings() {
		s.e.log.Warn("container starts with less than was asked for", "container", s.c.id, "warning", w)
	}
	return nil
}

// mountVolumes mounts the volumes that have to be, for a user of them; undo gets what gives them back.
func (e *Engine) mountVolumes(v *view, user string, undo *undo.Stack) error {
	for _, m := range v.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		undo.Add(func() error {
			_, err := e.deps.Volumes.Unmount(m.Name, user)
			return err
		})
		if err := e.deps.Volumes.Mount(m.Name, user); err != nil {
			return err
		}
	}
	return nil
}

// connect gives the container its address and writes the files that tell it.
func (s *starting) connect(ctx context.Context) error {
	if s.v.ResolvedNet != "" {
		return nil
	}
	s.endpoints = map[string]*mobynet.EndpointSettings{}
	names := networkNames(s.v)
	if !isBridged(s.v) {
		for _, name := range names {
			s.endpoints[name] = &mobynet.EndpointSettings{}
			if info, err := s.e.deps.Network.Resolve(name); err == nil {
				s.endpoints[name].NetworkID = info.ID
			}
			s.e.emitNetwork(ctx, s.v, events.ActionConnect, name)
		}
		return nil
	}
	ns, err := s.task.NetNS()
	if err != nil {
		return err
	}
	defer ns.Close()
	s.steps.Add(func() error { return s.e.deps.Network.Detach(context.WithoutCancel(ctx), s.c.id) })
	var all []network.Endpoint
	for _, name := range names {
		ep, err := s.e.deps.Network.Attach(ctx, attachSpec(s.v, name, s.v.Networks[name], ns))
		if err != nil {
			return err
		}
		all = append(all, ep)
		s.endpoints[name] = endpointSettings(s.v, s.v.Networks[name].Copy(), ep)
		s.e.emitNetwork(ctx, s.v, events.ActionConnect, name)
	}
	if s.published, err = s.e.serve(ctx, s.v, s.task, s.endpoints); err != nil {
		return err
	}
	return s.e.addAddresses(s.v, all)
}

// attach connects the clients that came before the start, so that they miss nothing.
func (s *starting) attach(ctx context.Context, waiting []*pendingAttach) error {
	for _, p := range waiting {
		f, err := s.task.Attach(ctx, p.options)
		if err != nil {
			return err
		}
		if !p.deliver(f) {
			f.Close() // the client went away meanwhile
		}
	}
	return nil
}

// attachLate connects the clients that came while the start was under way. From now on nobody queues any more.
func (s *starting) attachLate() {
	ctx, cancel := context.WithTimeout(context.Background(), clearTimeout)
	defer cancel()
	late := s.c.takePending()
	if err := s.attach(ctx, late); err != nil {
		// The container runs; only these clients see nothing of it.
		s.e.log.Warn("clients were not attached", "container", s.c.id, "clients", len(late), "err", err)
		s.c.failPending(late)
	}
}

// started publishes that the container runs and looks after its end.
func (s *starting) started(ctx context.Context) error {
	settled := make(chan struct{})
	e, c := s.e, s.c
	err := c.move(container.StateRunning, func(v *view) {
		v.task, v.endpoints, v.published, v.settled, v.document = s.task, s.endpoints, s.published, settled, execBase(s.document)
		v.Networks = rememberIDs(v.Networks, s.endpoints)
		v.Life.StartedAt, v.Life.FinishedAt = s.task.StartedAt(), time.Time{}
		v.Life.ExitCode, v.Life.Signal, v.Life.Error, v.Life.OOMKilled = 0, 0, "", false
		if v.Life.StartedAt.IsZero() {
			v.Life.StartedAt = time.Now()
		}
		v.Life.StartedAt = v.Life.StartedAt.UTC()
		v.Life.Begin(s.cause, event.OriginOf(ctx), v.Life.StartedAt)
	})
	if err != nil && c.view().status() != container.StateRunning {
		return err
	}
	e.saved(c, err)
	s.attachLate()
	e.goWork(func() { e.feedFollowers(e.life, c.id, s.task) }) // who came while it was being started
	e.startShipping(c)
	e.startSampling(s.v, s.task)
	e.emit(ctx, c.view(), events.ActionStart, nil)
	e.startProbes(c)
	e.goWork(func() { e.watch(c, s.task, settled) })
	return nil
}

// bundle collects what the runtime needs.
func (e *Engine) bundle(ctx context.Context, v *view) (Bundle, error) {
	layers, err := e.deps.Images.RootFS(ctx, v.ID)
	if err != nil {
		return Bundle{}, err
	}
	if err := e.prepareSources(v, layers); err != nil {
		return Bundle{}, err
	}
	if err := e.writeFiles(v); err != nil {
		return Bundle{}, err
	}
	join, err := e.joined(v)
	if err != nil {
		return Bundle{}, err
	}
	logs, err := e.loggingFor(v)
	if err != nil {
		return Bundle{}, err
	}
	document, err := e.document(v)
	if err != nil {
		return Bundle{}, err
	}
	if err := e.swapOwners(ctx, v, document); err != nil {
		return Bundle{}, err
	}
	if err := e.loadAppArmor(ctx, document); err != nil {
		return Bundle{}, err
	}
	overlays, err := e.mountedImages(ctx, v)
	if err != nil {
		return Bundle{}, err
	}
	size := v.HostConfig.ConsoleSize
	return Bundle{
		Bundle: runtime.Bundle{
			ID: v.ID, Spec: document, RootFS: runtime.Layers(layers), Parts: parts(v.Mounts), Overlays: overlays, IDs: runtime.IDRange(v.IDs),
			GroupAdd: v.HostConfig.GroupAdd, StateDir: e.stateDir(v.ID), LogDir: e.logDir(v.ID), Log: logs,
			Terminal: v.Config.Tty, OpenStdin: v.Config.OpenStdin, StdinOnce: v.Config.StdinOnce,
			ConsoleSize: [2]uint16{uint16(size[0]), uint16(size[1])}, Init: e.usesInit(v), Labels: v.Config.Labels,
		},
		JoinTasks: join,
	}, nil
}

// usesInit tells whether a container gets an init of ours.
func (e *Engine) usesInit(v *view) bool {
	if v.HostConfig.Init != nil {
		return *v.HostConfig.Init
	}
	return e.config.Init
}

// mountedImages are the layers of the images that a container mounts, by destination.
func (e *Engine) mountedImages(ctx context.Context, v *view) (map[string]runtime.Layers, error) {
	var overlays map[string]runtime.Layers
	for _, m := range v.Mounts {
		if m.Type != mount.TypeImage {
			continue
		}
		layers, err := e.deps.Images.MountedImage(ctx, v.ID, m.Source)
		if err != nil {
			return nil, err
		}
		if overlays == nil {
			overlays = map[string]runtime.Layers{}
		}
		overlays[m.Destination] = runtime.Layers(layers)
	}
	return overlays, nil
}

// joined finds the tasks whose namespaces the container uses.
func (e *Engine) joined(v *view) (map[specs.LinuxNamespaceType]Task, error) {
	join := map[specs.LinuxNamespaceType]Task{}
	for _, j := range []struct {
		typ   specs.LinuxNamespaceType
		from  state.Reference
		donor func(v *view) (*view, error)
	}{
		{specs.NetworkNamespace, v.ResolvedNet, e.networkDonor},
		{specs.IPCNamespace, v.ResolvedIPC, e.ipcDonor},
		{specs.PIDNamespace, v.ResolvedPID, e.pidDonor},
	} {
		if j.from == "" {
			continue
		}
		other, err := j.donor(v)
		if err != nil {
			return nil, err
		}
		join[j.typ] = other.task
	}
	return join, nil
}

// networkDonor is the container whose network namespace is joined.
func (e *Engine) networkDonor(v *view) (*view, error) {
	other, err := e.viewOf(string(v.ResolvedNet))
	switch {
	case errdefs.IsNotFound(err):
		// The container that is started exists: this is not for clients to take as missing.
		return nil, internal("joining network namespace of container: %v", err)
	case err != nil:
		return nil, fmt.Errorf("joining network namespace of container: %w", err)
	case other.status() == container.StateRestarting:
		return nil, fmt.Errorf("cannot join network namespace of container: %w", errRestarting(other.ID))
	case other.task == nil || !other.live():
		return nil, conflict("cannot join network namespace of a non running container: container %s is %s", other.Name, other.status())
	}
	return other, nil
}

// ipcDonor is the container whose IPC namespace is joined. It has to agree to that by its own mode, whose default does
// not.
func (e *Engine) ipcDonor(v *view) (*view, error) {
	name := v.HostConfig.IpcMode.Container()
	other, err := e.runningDonor(string(v.ResolvedIPC), name)
	if err != nil {
		return nil, fmt.Errorf("failed to join IPC namespace: %w", err)
	}
	if mode := other.HostConfig.IpcMode; mode.IsPrivate() || mode.IsNone() {
		return nil, invalid("failed to join IPC namespace: container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", name)
	}
	return other, nil
}

// pidDonor is the container whose PID namespace is joined.
func (e *Engine) pidDonor(v *view) (*view, error) {
	other, err := e.runningDonor(string(v.ResolvedPID), v.HostConfig.PidMode.Container())
	if err != nil {
		return nil, fmt.Errorf("failed to join PID namespace: %w", err)
	}
	return other, nil
}

// runningDonor finds a container that has namespaces to join. Errors call it by the name that the user gave.
func (e *Engine) runningDonor(id, name string) (*view, error) {
	other, err := e.viewOf(id)
	switch {
	case err != nil:
		return nil, cannotJoin(err)
	case other.status() == container.StateRestarting:
		return nil, errRestarting(name)
	case other.task == nil || !other.live():
		return nil, errNotRunning(name)
	}
	return other, nil
}

// rememberIDs are the endpoints that were asked for, with the ids of their networks: as with Docker, these can still be
// seen when the container has ended.
func rememberIDs(asked, live map[string]*mobynet.EndpointSettings) map[string]*mobynet.EndpointSettings {
	out := maps.Clone(asked)
	for name, es := range live {
		if out[name] == nil || out[name].NetworkID == es.NetworkID {
			continue
		}
		out[name] = out[name].Copy()
		out[name].NetworkID = es.NetworkID
	}
	return out
}

// startError is a start that failed because of the container itself.
type startError struct {
	message string
	code    int
	cause   error
	step    *runtime.StartError // that went wrong; nil: none did, a source of a mount could not be had
}

func (s *startError) Error() string { return s.message }

func (s *startError) Unwrap() []error {
	if s.step == nil {
		return []error{s.cause}
	}
	return []error{s.cause, s.step}
}

// The exit codes of containers that could not be started.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitOther         = 128
)

// startFailure words an error as Docker does, for clients that take the exit code from the words.
func startFailure(err error) error {
	if part, ok := errors.AsType[*linuxmount.PartError](err); ok {
		// Docker has NotFound for one that is missing; but that a container can be started is for clients to see.
		return &startError{message: part.Error(), code: exitNotFound, cause: errdefs.ErrInvalidArgument.WithMessage(part.Error())}
	}
	if _, ok := errors.AsType[*runtime.UnmappableError](err); ok {
		return problem.WithHint(err, "make the container with --userns=host: its filesystem is not one that shows other owners")
	}
	var se *runtime.StartError
	if !errors.As(err, &se) {
		return err
	}
	text := se.Message
	code := exitOther
	switch {
	case isMountStep(se) && (se.Errno == syscall.ENOTDIR || se.Errno == syscall.EISDIR):
		text += ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
		code = exitNotFound
	case containsAny(text, "executable file not found", "no such file or directory", "system cannot find the file specified"):
		code = exitNotFound
	case containsAny(text, "permission denied", "is a directory"):
		code = exitNotExecutable
	}
	message := "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: error during container init: " + text + ": unknown"
	failure := &startError{message: message, code: code, cause: errdefs.ErrInvalidArgument.WithMessage(message), step: se}
	if se.Op == plan.OpAppArmor && se.Errno == syscall.ENOENT {
		return problem.WithHint(failure, "load the profile with: apparmor_parser -r FILE; see which there are with: aa-status")
	}
	return failure
}

func isMountStep(se *runtime.StartError) bool {
	return strings.Contains(string(se.Op), "mount") || strings.Contains(se.Step, "mount")
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}

// exitCodeOf is what State.ExitCode shows after a start that failed.
func exitCodeOf(err error) int {
	var s *startError
	if errors.As(err, &s) {
		return s.code
	}
	return exitOther
}

// liveNetworks are the addresses that inspect and list show: those of now, else what was asked for.
func (v *view) liveNetworks() map[string]*mobynet.EndpointSettings {
	if v.endpoints != nil {
		return v.endpoints
	}
	return maps.Clone(v.Networks)
}
