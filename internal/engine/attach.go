package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/detachkeys"
	"github.com/portholehq/porthole/internal/runtime"
)

// pendingAttach is a client that came before the container was started.
type pendingAttach struct {
	options runtime.AttachOptions
	ready   chan *os.File // gets our end of the streams, or is closed without

	mu   sync.Mutex
	over bool // nobody waits any more, or ready has got all it will get
}

// deliver hands over the streams; false: the client is gone, and the caller keeps them.
func (p *pendingAttach) deliver(f *os.File) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.over = true
	if f != nil {
		p.ready <- f
	}
	close(p.ready)
	return true
}

// leave tells that the client has gone. What was delivered in the meantime is closed.
func (p *pendingAttach) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		close(p.ready)
	}
	if f := <-p.ready; f != nil {
		f.Close()
	}
}

// takePending returns the clients that wait for a start, and forgets them.
func (c *ctr) takePending() []*pendingAttach {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.pending
	c.pending = nil
	return list
}

// failPending sends clients away that waited for a start which did not succeed.
func (c *ctr) failPending(list []*pendingAttach) {
	for _, p := range list {
		p.deliver(nil)
	}
}

func (c *ctr) forgetPending(p *pendingAttach) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = slices.DeleteFunc(c.pending, func(q *pendingAttach) bool { return q == p })
}

// ContainerAttach joins a client to the streams of a container's first process. open is called once, after all checks
// have passed; the engine closes what it returns. A container that does not run is waited for. The call returns when
// the container has ended, the client has detached or gone away, or ctx ends.
//
// With Logs and Stream together the old output is followed by the new; what is written in the very moment of the
// change-over may come twice, never not at all.
func (e *Engine) ContainerAttach(ctx context.Context, ref string, o AttachOptions, open func() (Stream, error)) error {
	c, done, err := e.operate(ctx, "attach", ref)
	if err != nil {
		return err
	}
	defer done()
	keys, err := detachkeys.Parse(o.DetachKeys)
	if err != nil {
		return invalid("Invalid detach keys (%s) provided", o.DetachKeys)
	}
	v := c.view()
	switch v.status() {
	case container.StatePaused:
		return conflict("container %s is paused, unpause the container before attach", ref)
	case container.StateRestarting:
		return conflict("container %s is restarting, wait until the container is running", ref)
	default: // the others run, or are waited for
	}
	a := &attachment{e: e, c: c, v: v, o: o, keys: keys, joined: done}
	return a.run(ctx, open)
}

// attachment is one client attached to one container.
type attachment struct {
	e    *Engine
	c    *ctr
	v    *view
	o    AttachOptions
	keys []byte
	// joined ends the operation: once the streams are connected, nobody waits for anything but the container's output.
	joined func()
}

func (a *attachment) run(ctx context.Context, open func() (Stream, error)) error {
	streams, pending, err := a.join(ctx)
	a.joined()
	if err != nil {
		return err
	}
	joined := time.Now()
	conn, err := open()
	if err != nil {
		if streams != nil {
			streams.Close()
		}
		a.abandon(pending)
		return err
	}
	defer conn.Close()
	if a.o.Stream {
		a.e.emit(ctx, a.c.view(), events.ActionAttach, nil)
	}
	if a.o.Logs {
		if err := a.replay(ctx, conn, joined); err != nil {
			a.e.log.Warn("old output was not replayed", "container", a.c.id, "err", err)
		}
	}
	if pending != nil {
		streams = a.awaitStart(ctx, conn, pending)
	}
	if streams == nil {
		return nil
	}
	if err := a.copy(ctx, conn, streams); !errors.Is(err, detachkeys.ErrDetached) {
		return err
	}
	return nil
}

// attachOptions are those of the runtime.
func attachOptions(v *view, o AttachOptions) runtime.AttachOptions {
	return runtime.AttachOptions{
		Stdin: o.Stdin && v.config().OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr,
		CloseStdin: v.config().StdinOnce && !v.config().Tty,
	}
}

// join connects to a running container at once, and queues for one that does not run.
func (a *attachment) join(ctx context.Context) (*os.File, *pendingAttach, error) {
	if !a.o.Stream {
		return nil, nil, nil
	}
	options := attachOptions(a.v, a.o)
	a.c.mu.Lock()
	v := a.c.view()
	if v.task == nil && v.live() && v.status() != container.StateRestarting {
		a.c.mu.Unlock()
		return nil, nil, errNoTask(v)
	}
	if v.task == nil && !a.c.deleted {
		p := &pendingAttach{options: options, ready: make(chan *os.File, 1)}
		a.c.pending = append(a.c.pending, p)
		a.c.mu.Unlock()
		return nil, p, nil
	}
	a.c.mu.Unlock()
	if v.task == nil {
		return nil, nil, errNoSuchContainer(a.c.id)
	}
	f, err := v.task.Attach(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	return f, nil, nil
}

func (a *attachment) abandon(p *pendingAttach) {
	if p != nil {
		a.c.forgetPending(p)
		p.leave()
	}
}

// awaitStart waits until the container is started; nil: it will not be, or the client has gone.
func (a *attachment) awaitStart(ctx context.Context, conn Stream, p *pendingAttach) *os.File {
	gone := watchGone(conn, !a.o.Stdin)
	defer gone.stop()
	select {
	case f := <-p.ready:
		return f
	case <-a.c.gone:
		select {
		case f := <-p.ready: // a short life is over already, and nothing of its output has been passed on
			return f
		default:
		}
	case <-gone.c:
	case <-ctx.Done():
	case <-a.e.life.Done():
	}
	a.abandon(p)
	return nil
}

// replay sends what was logged until a moment.
func (a *attachment) replay(ctx context.Context, conn io.Writer, until time.Time) error {
	w := newFrameWriter(conn, a.v.config().Tty)
	o := LogsOptions{Stdout: a.o.Stdout, Stderr: a.o.Stderr, Until: until, Tail: -1}
	if !a.o.Stream {
		o.Until = time.Time{}
	}
	return a.e.logs(ctx, a.c, o, func(entry LogEntry) error { return w.write(byte(entry.Stream), entry.Line) })
}

// copy moves bytes until one side has enough. The error is ErrDetached if that was the client by its keys.
func (a *attachment) copy(ctx context.Context, conn Stream, streams *os.File) error {
	sock, err := streamConn(streams)
	if err != nil {
		return err
	}
	defer sock.Close()
	output := make(chan error, 1)
	var ended <-chan struct{}
	if task := a.c.view().task; task != nil {
		ended = task.Done()
	}
	go func() { output <- copyToClient(conn, sock, ended) }()
	input := make(chan error, 1)
	if a.o.Stdin && a.v.config().OpenStdin {
		go func() { input <- a.copyInput(conn, sock) }()
	} else {
		input <- nil
	}
	err = a.await(ctx, conn, input, output)
	if errors.Is(err, detachkeys.ErrDetached) {
		a.e.emit(ctx, a.c.view(), events.ActionDetach, nil)
	}
	return err
}

// await returns when the attachment is over: ErrDetached, or nil for every other end. Closing both sides, which the
// callers do, ends the copying goroutines.
func (a *attachment) await(ctx context.Context, conn Stream, input, output <-chan error) error {
	gone := goneWatch{stop: func() {}}
	defer func() { gone.stop() }()
	for {
		select {
		case err := <-input:
			if errors.Is(err, detachkeys.ErrDetached) {
				return err
			}
			if err != nil {
				return nil // the connection broke
			}
			input = nil
			gone = watchGone(conn, true)
		case err := <-output:
			// The container has ended, or the client does not read any more.
			if err != nil {
				a.e.log.Debug("output of an attached client broke off", "container", a.c.id, "err", err)
			}
			_ = conn.CloseWrite()
			return nil
		case <-gone.c:
			return nil
		case <-ctx.Done():
			return nil
		case <-a.e.life.Done():
			return nil
		}
	}
}

// copyInput passes on what the client types. A client that closes its side closes the process's standard input if the
// container was made for one client only; see runtime.AttachOptions.
func (a *attachment) copyInput(conn io.Reader, sock *net.UnixConn) error {
	if a.v.config().Tty {
		conn = detachkeys.NewReader(conn, a.keys)
	}
	_, err := io.Copy(sock, conn)
	if err == nil {
		return sock.CloseWrite()
	}
	return err
}
