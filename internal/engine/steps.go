package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/undo"
)

// steps are the processes of builds that run. They are isolated as containers are, but have no record: a step that
// loses its daemon is nobody's, and the next daemon clears it away.
type steps struct {
	mu      sync.Mutex
	running map[string]*runningStep
}

type runningStep struct {
	step *step.Step
	view *view
	task Task
	// ctr is the step for what it has in common with a container that runs: exec, top, inspect.
	ctr *ctr
}

func (s *steps) add(r *runningStep) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = map[string]*runningStep{}
	}
	s.running[r.step.ID] = r
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, r.step.ID)
	}
}

func (s *steps) find(id string) *runningStep {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id]
}

// match finds a step that runs by its ID or the beginning of one; nil: there is none, or several.
func (s *steps) match(ref string) *runningStep {
	if len(ref) < minStepRef {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *runningStep
	for id, r := range s.running {
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != nil {
			return nil
		}
		found = r
	}
	return found
}

// RunStep runs a step of a build to its end; see [step.Runner].
func (e *Engine) RunStep(ctx context.Context, s *step.Step, started func()) (exit step.Exit, err error) {
	var cleanup undo.Stack
	defer func() { e.clearStep(s.ID, &cleanup, err == nil) }()
	r := &runningStep{step: s}
	if r.view, err = e.stepView(s); err != nil {
		return exit, err
	}
	r.ctr = e.stepContainer(s, r.view)
	cleanup.AddFunc(func() { e.ids.release(r.view.IDs) })
	if err := os.MkdirAll(e.dir(s.ID), 0o700); err != nil {
		return exit, err
	}
	cleanup.AddFunc(func() { e.removeFiles(e.dir(s.ID)) })
	if err := e.writeFiles(r.view); err != nil {
		return exit, err
	}
	b, err := e.stepBundle(ctx, s, r.view)
	if err != nil {
		return exit, err
	}
	if r.task, err = e.deps.Runtime.Create(ctx, b); err != nil {
		return exit, err
	}
	cleanup.Add(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
		defer cancel()
		return r.task.Delete(ctx)
	})
	r.ctr.update(func(v *view) { v.task = r.task })
	detach, err := e.connectStep(ctx, r)
	if err != nil {
		return exit, err
	}
	cleanup.AddFunc(detach)
	defer e.execs.forget(s.ID)
	defer e.steps.add(r)()
	return e.followStep(ctx, r, started)
}

// clearingMost is how many steps may be cleared away while their builds go on.
const clearingMost = 4

// clearStep clears away what a step had. The processes of one that has ended are gone, and with them its mounts, so its
// build need not wait for it.
func (e *Engine) clearStep(id string, cleanup *undo.Stack, ended bool) {
	run := func() {
		if err := cleanup.Run(); err != nil {
			e.log.Error("build step left something behind", "step", id, "err", err)
		}
	}
	if !ended || e.life.Err() != nil {
		run()
		return
	}
	select {
	case e.clearing <- struct{}{}:
		e.goWork(func() {
			defer func() { <-e.clearing }()
			run()
		})
	default:
		run()
	}
}

// stepLog bounds what is kept of a step's output: enough for any that is read, and a step that prints without end does not
// fill the disk.
var stepLog = crilog.Options{MaxSize: 64 << 20, MaxFiles: 4, Compress: true}

// stepView is what the parts of the engine that make containers need to know of a step.
func (e *Engine) stepView(s *step.Step) (*view, error) {
	mode := container.NetworkMode(s.Network)
	c := &container.Config{
		Hostname: s.Hostname, User: s.Process.User, Env: s.Process.Env, Cmd: s.Process.Args, WorkingDir: s.Process.Cwd,
		Tty: s.Process.Terminal, AttachStdout: true, AttachStderr: true, OpenStdin: s.Process.Stdin != nil, StdinOnce: true,
	}
	h := &container.HostConfig{
		NetworkMode: mode, ExtraHosts: s.ExtraHosts, Privileged: s.Privileged, ReadonlyRootfs: s.ReadonlyRoot, Resources: s.Resources,
		LogConfig: container.LogConfig{Type: "json-file"},
	}
	if s.Hostname == "" {
		c.Hostname = s.ID[:12]
	}
	if _, err := spec.Validate(e.deps.Host, c, h); err != nil {
		return nil, err
	}
	spec.SetDefaults(e.deps.Host, h)
	v := &view{Container: &state.Container{ID: s.ID, Name: s.Name, Config: c, HostConfig: h}}
	if s.Network == step.NetworkDefault {
		v.Networks = map[string]*mobynet.EndpointSettings{string(mode): {}}
	}
	for _, m := range s.Mounts {
		mt := state.Mount{
			Type: mount.TypeBind, Source: m.Source, Subpath: m.Part, Destination: path.Clean(m.Destination), RW: m.RW,
			Propagation: mount.PropagationRPrivate,
		}
		switch {
		case len(m.Layers.Lower) > 0:
			mt.Source = m.Layers.Lower[0]
		case m.Source == "":
			mt = state.Mount{Type: mount.TypeTmpfs, Destination: mt.Destination, RW: m.RW, Options: m.Options}
		}
		v.Mounts = append(v.Mounts, mt)
	}
	reason := hostUserReason(h)
	if reason == "" {
		reason = e.unmappable(v.Mounts)
	}
	if reason != "" {
		e.log.Warn("build step runs in the host's user namespace", "step", s.ID, "name", s.Name, "reason", reason)
		return v, nil
	}
	ids, err := e.ids.allocate()
	if err != nil {
		return nil, err
	}
	v.IDs = ids
	return v, nil
}

func (e *Engine) stepBundle(ctx context.Context, s *step.Step, v *view) (Bundle, error) {
	document, err := e.document(v)
	if err != nil {
		return Bundle{}, err
	}
	if err := e.loadAppArmor(ctx, document); err != nil {
		return Bundle{}, err
	}
	overlays := map[string]runtime.Layers{}
	for _, m := range s.Mounts {
		if len(m.Layers.Lower) > 0 {
			overlays[path.Clean(m.Destination)] = runtime.Layers(m.Layers)
		}
	}
	return Bundle{Bundle: runtime.Bundle{
		ID: s.ID, Spec: document, RootFS: runtime.Layers(s.RootFS), Parts: parts(v.Mounts), Overlays: overlays, IDs: runtime.IDRange(v.IDs),
		StateDir: e.stateDir(s.ID), LogDir: s.LogDir, Log: stepLog,
		Terminal: s.Process.Terminal, OpenStdin: s.Process.Stdin != nil, StdinOnce: true,
	}}, nil
}

// connectStep gives a step an address, if it is to have one.
func (e *Engine) connectStep(ctx context.Context, r *runningStep) (detach func(), err error) {
	if !isBridged(r.view) {
		return func() {}, nil
	}
	ns, err := r.task.NetNS()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	ep, err := e.deps.Network.Attach(ctx, network.AttachSpec{
		ContainerID: r.step.ID, Name: r.step.Name, Network: string(step.NetworkDefault), NetNS: ns,
	})
	if err != nil {
		return nil, err
	}
	detach = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
		defer cancel()
		if err := e.deps.Network.Detach(ctx, r.step.ID); err != nil {
			e.log.Error("step was not taken off its network", "step", r.step.ID, "err", err)
		}
	}
	if err := e.addAddresses(r.view, []network.Endpoint{ep}); err != nil {
		detach()
		return nil, err
	}
	return detach, nil
}

// followStep starts a step's process and stays with it until it has ended.
func (e *Engine) followStep(ctx context.Context, r *runningStep, started func()) (exit step.Exit, err error) {
	p := &r.step.Process
	f, err := r.task.Attach(ctx, runtime.AttachOptions{Stdin: p.Stdin != nil, Stdout: true, Stderr: true, CloseStdin: true})
	if err != nil {
		return exit, err
	}
	conn, err := streamConn(f)
	if err != nil {
		return exit, err
	}
	defer conn.Close()
	if err := r.task.Start(ctx); err != nil {
		return exit, e.stepNotStarted(ctx, r, err)
	}
	begun := time.Now().UTC()
	started()
	var surrendered []string
	if r.step.Privileged {
		surrendered = []string{"--security=insecure"}
	}
	e.emitStep(ctx, r.step, actionStepStart, dangerous(surrendered))
	copied := make(chan error, 1)
	go func() { copied <- takeApart(p, conn) }()
	if p.Stdin != nil {
		go func() {
			_, _ = io.Copy(conn, p.Stdin) // the process's business
			_ = conn.CloseWrite()
		}()
	}
	err = controls{resize: p.Resize, signals: p.Signals, to: r.task, log: e}.until(ctx, r.task.Done())
	if err != nil {
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
		defer cancel()
		err = errors.Join(err, r.task.Kill(kill))
		return exit, err
	}
	if err := <-copied; err != nil && ctx.Err() == nil {
		return exit, fmt.Errorf("read the output of a step: %w", err)
	}
	return e.stepEnded(ctx, r, begun, r.task.Exit()), nil
}

// takeApart passes on a process's output.
func takeApart(p *step.Process, conn io.Reader) error {
	stdout, stderr := p.Stdout, p.Stderr
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	if p.Terminal {
		_, err := io.Copy(stdout, conn)
		return err
	}
	_, err := stdcopy.StdCopy(stdout, stderr, conn)
	return err
}

// controls pass a client's resizes and signals on to a process.
type controls struct {
	resize  <-chan step.Size
	signals <-chan syscall.Signal
	to      interface {
		Signal(ctx context.Context, sig syscall.Signal) error
		Resize(ctx context.Context, height, width uint16) error
	}
	log *Engine
}

// until passes on until the process is done or ctx ends.
func (c controls) until(ctx context.Context, done <-chan struct{}) error {
	for {
		var err error
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case size, ok := <-c.resize:
			if !ok {
				c.resize = nil
				continue
			}
			err = c.to.Resize(ctx, size.Height, size.Width)
		case sig, ok := <-c.signals:
			if !ok {
				c.signals = nil
				continue
			}
			err = c.to.Signal(ctx, sig)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			c.log.log.Debug("a step's process was not told", "err", err)
		}
	}
}

// ExecStep runs another process in a step that runs; see [step.Runner].
func (e *Engine) ExecStep(ctx context.Context, id string, p *step.Process) (exit step.Exit, err error) {
	r := e.steps.find(id)
	if r == nil {
		return exit, notFound("No such step: %s", id)
	}
	req := container.ExecCreateRequest{
		User: p.User, Tty: p.Terminal, Env: p.Env, WorkingDir: p.Cwd, Cmd: p.Args,
		AttachStdin: p.Stdin != nil, AttachStdout: true, AttachStderr: true,
	}
	process, err := e.execProcess(r.view, req)
	if err != nil {
		return exit, err
	}
	pipes, err := newPipes(req, true)
	if err != nil {
		return exit, err
	}
	defer pipes.closeTheirs()
	proc, err := r.task.Exec(ctx, runtime.ExecOptions{
		ID: randomID(), Process: process, Stdin: pipes.theirs[0], Stdout: pipes.theirs[1], Stderr: pipes.theirs[2],
	})
	if err == nil {
		if pty := proc.PTY(); pty != nil {
			pipes.pty = pty
			pipes.ours[0], err = pollableCopy(pty)
		}
	}
	if err == nil {
		err = proc.Start(ctx)
	}
	if err != nil {
		pipes.closeOurs()
		return exit, startFailure(err)
	}
	return e.followProcess(ctx, p, proc, pipes)
}

// followProcess stays with a process beside a step's until it has ended.
func (e *Engine) followProcess(ctx context.Context, p *step.Process, proc Process, pipes *pipes) (exit step.Exit, err error) {
	defer pipes.pty.Close() // nil is fine
	ended := make(chan struct{})
	var outputs sync.WaitGroup
	for f, to := range map[*os.File]io.Writer{pipes.ours[1]: p.Stdout, pipes.ours[2]: p.Stderr} {
		if f != nil {
			outputs.Go(func() { copyOutput(f, ended, writerTo(to)) })
		}
	}
	stdin := pipes.ours[0]
	if p.Terminal {
		outputs.Go(func() { copyOutput(stdin, ended, writerTo(p.Stdout)) })
	}
	if p.Stdin != nil {
		go func() {
			_, _ = io.Copy(stdin, p.Stdin) // the process's business
			if !p.Terminal {
				stdin.Close()
			}
		}()
	}
	err = controls{resize: p.Resize, signals: p.Signals, to: proc, log: e}.until(ctx, proc.Done())
	if err != nil {
		_ = proc.Signal(context.WithoutCancel(ctx), syscall.SIGKILL) // it may have ended
	}
	close(ended)
	outputs.Wait()
	if err != nil {
		return exit, err
	}
	x := proc.Exit()
	return step.Exit{Code: x.Code, Signal: x.Signal, OOMKilled: x.OOMKilled}, nil
}

func writerTo(w io.Writer) func([]byte) {
	return func(p []byte) {
		if w != nil {
			_, _ = w.Write(p) // a client that is gone does not stop the process
		}
	}
}
