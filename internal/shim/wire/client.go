package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Client is the daemon's end of a conversation with a shim. All methods may be
// called from several goroutines.
type Client struct {
	conn *Conn
	nc   *net.UnixConn // below conn
	// sending has a token while a frame is being sent.
	sending chan struct{}
	events  chan Event
	done    chan struct{} // closed when the receiver has ended

	// mu guards what follows.
	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan answer
	owed    map[uint64]bool // calls that were given up, and not answered since
	paid    chan struct{}   // closed when owed becomes empty; nil while it is
	backlog []Event
	wake    chan struct{} // one token: backlog changed
	err     error         // why the conversation ended
}

type answer struct {
	reply Reply
	files []*os.File
}

// Dial connects with the shim listening at path. The path may be longer than
// a socket address can hold.
func Dial(path string) (*Client, error) {
	c, err := dialUnix(path)
	if err != nil {
		return nil, fmt.Errorf("dial shim: %w", err)
	}
	return NewClient(c), nil
}

// NewClient takes over a connection with a shim.
func NewClient(c *net.UnixConn) *Client {
	cl := &Client{
		conn:    NewConn(c),
		nc:      c,
		sending: make(chan struct{}, 1),
		owed:    map[uint64]bool{},
		events:  make(chan Event),
		done:    make(chan struct{}),
		waiting: map[uint64]chan answer{},
		wake:    make(chan struct{}, 1),
	}
	go cl.receive()
	go cl.deliver()
	return cl
}

// Events gives the shim's events in order. The channel is closed when the
// conversation has ended; events that were received before are delivered
// first, unless Close was called. A slow reader delays nobody.
func (c *Client) Events() <-chan Event { return c.events }

// Done is closed when the shim or Close ended the conversation.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the conversation; calls under way return net.ErrClosed.
func (c *Client) Close() error {
	c.fail(net.ErrClosed)
	err := c.conn.Close()
	<-c.done
	return err
}

// sendTimeout is how long a shim may take nothing of a request: only one that
// has not read the requests before does.
const sendTimeout = 3 * time.Second

// Call asks the shim for method with in as body and decodes the answer into
// out; both may be nil. The files stay the caller's; those received are the
// caller's, too. An error that the shim answered with is an *Error. When ctx
// ends, Call returns at once, but the shim goes on with what it was asked for,
// see [Client.Owing]. A shim that takes no requests gives os.ErrDeadlineExceeded.
func (c *Client) Call(ctx context.Context, method string, in, out any, files ...*os.File) ([]*os.File, error) {
	frame := Frame{Kind: KindRequest}
	req := Request{Method: method}
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("shim %s: encode: %w", method, err)
		}
		req.Body = raw
		if p, ok := in.(payloader); ok {
			frame.Payload = p.payload()
		}
	}
	ch, err := c.register(&req)
	if err != nil {
		return nil, fmt.Errorf("shim %s: %w", method, err)
	}
	defer c.unregister(req.ID, ch)
	if frame.JSON, err = json.Marshal(req); err != nil {
		return nil, fmt.Errorf("shim %s: encode: %w", method, err)
	}
	if err := c.send(ctx, frame, files); err != nil {
		return nil, fmt.Errorf("shim %s: %w", method, err)
	}
	var a answer
	select {
	case a = <-ch:
	case <-ctx.Done():
		c.owe(req.ID)
		return nil, fmt.Errorf("shim %s: %w", method, context.Cause(ctx))
	case <-c.done:
		select {
		case a = <-ch: // answered with its last breath
		default:
			return nil, fmt.Errorf("shim %s: %w", method, c.cause())
		}
	}
	return finishCall(method, a, out)
}

func (c *Client) send(ctx context.Context, frame Frame, files []*os.File) error {
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return c.cause()
	}
	defer func() { <-c.sending }()
	c.nc.SetWriteDeadline(time.Now().Add(sendTimeout))
	err := c.conn.Send(frame, files...)
	if errors.Is(err, errTorn) {
		c.fail(err)
		c.conn.Close()
	}
	return err
}

// owe notes that a call was given up, unless it has been answered meanwhile.
func (c *Client) owe(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[id] == nil {
		return
	}
	c.owed[id] = true
	if c.paid == nil {
		c.paid = make(chan struct{})
	}
}

// Owing tells whether the shim has not answered a call that was given up. The
// channel is closed once it has answered all of them. It is nil if it owes
// nothing.
func (c *Client) Owing() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paid
}

func finishCall(method string, a answer, out any) ([]*os.File, error) {
	if a.reply.Error != nil {
		closeAll(a.files)
		return nil, fmt.Errorf("shim %s: %w", method, a.reply.Error)
	}
	if out != nil {
		if err := json.Unmarshal(a.reply.Body, out); err != nil {
			closeAll(a.files)
			return nil, fmt.Errorf("shim %s: decode answer: %w", method, err)
		}
	}
	return a.files, nil
}

func (c *Client) register(req *Request) (chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.nextID++
	req.ID = c.nextID
	ch := make(chan answer, 1)
	c.waiting[req.ID] = ch
	return ch, nil
}

// unregister forgets a call; files of an answer nobody took are closed.
func (c *Client) unregister(id uint64, ch chan answer) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
	select {
	case a := <-ch:
		closeAll(a.files)
	default:
	}
}

func (c *Client) receive() {
	defer close(c.done)
	for {
		f, files, err := c.conn.Recv()
		if err == nil {
			err = c.dispatch(f, files)
		}
		if err != nil {
			c.fail(err)
			c.conn.Close()
			return
		}
	}
}

func (c *Client) dispatch(f Frame, files []*os.File) error {
	switch f.Kind {
	case KindReply:
		return c.dispatchReply(f, files)
	case KindEvent:
		closeAll(files) // no event towards a daemon carries any
		ev, err := decodeEvent(f)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.backlog = append(c.backlog, ev)
		c.mu.Unlock()
		c.nudge()
		return nil
	default:
		closeAll(files)
		return fmt.Errorf("%w: request from a shim", ErrMalformed)
	}
}

func (c *Client) dispatchReply(f Frame, files []*os.File) error {
	var r Reply
	if err := json.Unmarshal(f.JSON, &r); err != nil {
		closeAll(files)
		return fmt.Errorf("%w: reply: %w", ErrMalformed, err)
	}
	c.mu.Lock()
	ch := c.waiting[r.ID]
	delete(c.waiting, r.ID)
	delete(c.owed, r.ID)
	if len(c.owed) == 0 && c.paid != nil {
		close(c.paid)
		c.paid = nil
	}
	if ch != nil {
		ch <- answer{r, files} // has room: one answer per call
	}
	c.mu.Unlock()
	if ch == nil {
		closeAll(files) // the caller gave up
	}
	return nil
}

// deliver hands events over one by one, so that receive never waits for
// whoever reads them.
func (c *Client) deliver() {
	defer close(c.events)
	for {
		c.mu.Lock()
		var ev Event
		have := len(c.backlog) > 0
		if have {
			ev = c.backlog[0]
			c.backlog = c.backlog[1:]
		}
		closed := errors.Is(c.err, net.ErrClosed)
		c.mu.Unlock()
		if !have {
			select {
			case <-c.wake:
				continue
			case <-c.done:
			}
			if c.drained() {
				return
			}
			continue
		}
		if closed || !c.hand(ev) {
			return
		}
	}
}

// hand gives one event to the reader. Once the conversation is over it still
// waits for the reader, but not beyond Close.
func (c *Client) hand(ev Event) bool {
	for {
		select {
		case c.events <- ev:
			return true
		case <-c.wake:
			if errors.Is(c.cause(), net.ErrClosed) {
				return false
			}
		}
	}
}

func (c *Client) drained() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.backlog) == 0
}

// fail records why the conversation ended; Close overrules other reasons.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil || errors.Is(err, net.ErrClosed) {
		c.err = err
	}
	c.mu.Unlock()
	c.nudge()
}

func (c *Client) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
