package engine

import (
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/detachkeys"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
)

// RunOptions say what [Engine.ContainerRun] creates, and which streams the client wants. Without any of them it is told
// of the start alone.
type RunOptions struct {
	Name     string // empty: one made up
	Request  container.CreateRequest
	Platform *ocispec.Platform // nil: the host's
	Attach   AttachOptions     // Stream and Logs do not count
}

func (o RunOptions) attached() bool { return o.Attach.Stdin || o.Attach.Stdout || o.Attach.Stderr }

// RunEnd is how a run went. Start is why it was not started; nil: it was. Then Exit is its end, for a client that was
// attached till then.
type RunEnd struct {
	Start    error
	Detached bool
	Exit     container.WaitResponse
}

// ContainerRun is ContainerCreate, ContainerAttach, ContainerWait and ContainerStart in one, which takes less time: it is
// known from the beginning that the container will be started, so that this begins while the record is on its way to the
// disk, and while the client is told. made is called once with what ContainerCreate would have answered, when that is so
// and before anything of the run can be seen, and returns the attached client's stream, or nil. An error in front of that
// leaves no container behind and is returned; later ones are in the RunEnd.
func (e *Engine) ContainerRun(ctx context.Context, o RunOptions, made func(container.CreateResponse) (Stream, error)) (RunEnd, error) {
	if o.Request.Config == nil {
		return RunEnd{}, invalid("config cannot be empty in order to create a container")
	}
	keys, err := detachkeys.Parse(o.Attach.DetachKeys)
	if err != nil {
		return RunEnd{}, invalid("Invalid detach keys (%s) provided", o.Attach.DetachKeys)
	}
	defer e.beginNamed(ctx, "run", o.Name)()
	n := e.newCreation()
	defer n.steps.Run() // does nothing after Keep
	defer n.close()
	if err := n.decide(ctx, o.Name, o.Request, o.Platform); err != nil {
		return RunEnd{}, err
	}
	if err := n.make(ctx); err != nil {
		return RunEnd{}, err
	}
	c := n.ctr()
	r := &running{e: e, n: n, made: made, c: c, attach: &attachment{e: e, c: c, v: c.view(), o: o.Attach, keys: keys}}
	if o.attached() {
		r.pending = &pendingAttach{options: attachOptions(c.view(), o.Attach), ready: make(chan *os.File, 1)}
		c.pending = append(c.pending, r.pending) // nobody else knows c
	}
	return r.run(ctx)
}

// running is one ContainerRun under way.
type running struct {
	e       *Engine
	n       *creation
	made    func(container.CreateResponse) (Stream, error)
	c       *ctr
	attach  *attachment
	pending *pendingAttach // nil: no streams are wanted

	tried  bool       // to publish the container
	known  bool       // that it is published
	output chan error // gets how the attachment ended; nil: there is none
}

func (r *running) run(ctx context.Context) (RunEnd, error) {
	first := r.c.view()
	failure := r.start(ctx)
	if !r.tried { // it failed before that: the container is there all the same
		failure = cmp.Or(r.publish(ctx), failure)
	}
	switch {
	case !r.known:
		return RunEnd{}, failure
	case failure != nil:
		r.failed(ctx, first)
		return RunEnd{Start: failure}, nil //nolint:nilerr // the container is there: its failure is in the RunEnd
	case r.output == nil:
		return RunEnd{}, nil
	}
	if err := <-r.output; errors.Is(err, detachkeys.ErrDetached) {
		return RunEnd{Detached: true}, nil
	}
	condition := container.WaitConditionNextExit
	if first.HostConfig.AutoRemove {
		condition = container.WaitConditionRemoved
	}
	v := r.e.await(ctx, r.c, first, condition)
	if v == nil {
		return RunEnd{}, cmp.Or(context.Cause(ctx), context.Cause(r.e.life))
	}
	return RunEnd{Exit: waitResponse(v, condition)}, nil
}

func (r *running) start(ctx context.Context) error {
	release, err := r.c.turn.take(ctx, "start")
	if err != nil {
		return err
	}
	defer release()
	return r.e.startOnce(ctx, r.c, state.RunStarted, func() error { return r.publish(ctx) })
}

// publish makes the container known to all, then to the client, and begins to attach it.
func (r *running) publish(ctx context.Context) error {
	r.tried = true
	if err := r.n.publish(ctx, r.c); err != nil {
		r.c.mu.Lock()
		defer r.c.mu.Unlock()
		r.c.deleted = true // what the start has to say of itself goes nowhere
		return err
	}
	r.known = true
	conn, err := r.made(r.n.response())
	if err != nil || r.pending == nil {
		return err
	}
	r.e.emit(ctx, r.c.view(), events.ActionAttach, nil)
	r.output = make(chan error, 1)
	go func() { r.output <- r.copy(ctx, conn) }()
	return nil
}

func (r *running) copy(ctx context.Context, conn Stream) error {
	streams := r.attach.awaitStart(ctx, conn, r.pending)
	if streams == nil {
		return nil
	}
	return r.attach.copy(ctx, conn, streams)
}

// failed does what is to be done after a start that failed, and returns when the client may be told.
func (r *running) failed(ctx context.Context, first *view) {
	r.attach.abandon(r.pending)
	if r.output != nil {
		if err := <-r.output; err != nil {
			r.e.log.Debug("client of a container that was not started", "container", r.c.id, "err", err)
		}
	}
	if first.HostConfig.AutoRemove {
		r.e.removeLater(r.c, event.OriginOf(ctx).Follows(), forRm)
		r.e.await(ctx, r.c, first, container.WaitConditionRemoved)
	}
}
