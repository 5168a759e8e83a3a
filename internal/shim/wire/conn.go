package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says how the JSON of a frame is to be read.
type Kind uint8

// The kinds of frames.
const (
	KindRequest Kind = 1
	KindReply   Kind = 2
	KindEvent   Kind = 3
	// KindWord is what shim and stage say to each other: the JSON is a bare
	// word, not JSON. A stage lives too briefly to learn to read that.
	KindWord Kind = 4
)

// Limits of one frame. A plan with a large seccomp program takes some hundred
// kilobytes; the kernel allows 253 descriptors per message (SCM_MAX_FD).
const (
	MaxFrame = 16 << 20
	MaxFiles = 253
)

const headerSize = 8

// ErrMalformed is what a peer that does not speak this protocol causes. The
// connection is of no use after it.
var ErrMalformed = errors.New("malformed frame")

// Frame is one message: JSON and, optionally, bytes that are not JSON.
type Frame struct {
	Kind    Kind
	JSON    []byte
	Payload []byte
}

// append adds the encoded frame to b.
func (f Frame) append(b []byte) ([]byte, error) {
	n := len(f.JSON)
	if f.Payload != nil {
		n += 1 + len(f.Payload)
	}
	if n > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes: larger than %d", n, MaxFrame)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = append(b, byte(f.Kind), 0, 0, 0)
	b = append(b, f.JSON...)
	if f.Payload != nil {
		b = append(b, 0)
		b = append(b, f.Payload...)
	}
	return b, nil
}

// parseHeader reads the first eight bytes of a frame.
func parseHeader(h []byte) (length int, kind Kind, err error) {
	if len(h) < headerSize {
		return 0, 0, io.ErrUnexpectedEOF
	}
	n := binary.LittleEndian.Uint32(h)
	kind = Kind(h[4])
	switch {
	case n > MaxFrame:
		return 0, 0, fmt.Errorf("%w: length %d", ErrMalformed, n)
	case kind < KindRequest || kind > KindWord:
		return 0, 0, fmt.Errorf("%w: kind %d", ErrMalformed, kind)
	case h[5] != 0 || h[6] != 0 || h[7] != 0:
		return 0, 0, fmt.Errorf("%w: reserved bytes are not zero", ErrMalformed)
	}
	return int(n), kind, nil
}

// splitBody parts JSON and payload.
func splitBody(kind Kind, body []byte) Frame {
	f := Frame{Kind: kind, JSON: body}
	if i := bytes.IndexByte(body, 0); i >= 0 {
		f.JSON, f.Payload = body[:i:i], body[i+1:]
	}
	return f
}

// transport moves bytes and descriptors; its two kinds are a net.UnixConn and
// a bare blocking descriptor.
type transport interface {
	// read fills some of p; oob, if not nil, takes control data. n is 0, and
	// err nil, at the end of the stream.
	read(p, oob []byte) (n, oobn int, truncated bool, err error)
	write(p, oob []byte) (n int, err error)
	Close() error
}

// Conn sends and receives frames. Send may be called from several goroutines,
// Recv from one at a time. Close ends both.
type Conn struct {
	t   transport
	oob []byte // Recv's room for control data

	sendMu sync.Mutex
}

// NewConn takes over c.
func NewConn(c *net.UnixConn) *Conn { return &Conn{t: netTransport{c}} }

// NewStageConn takes over a blocking stream socket, for a process that is too
// short-lived for the network poller. It marks fd close-on-exec: the end of
// the stream is how the shim learns that exec succeeded.
func NewStageConn(fd int) *Conn {
	unix.CloseOnExec(fd)
	return &Conn{t: fdTransport(fd)}
}

// Close closes the connection; a blocked Recv on a net.UnixConn returns.
func (c *Conn) Close() error { return c.t.Close() }

// errTorn is for a frame of which a part was sent: nothing can follow it.
var errTorn = errors.New("torn off")

// Send writes one frame with files. The files stay the caller's.
func (c *Conn) Send(f Frame, files ...*os.File) error {
	if len(files) > MaxFiles {
		return fmt.Errorf("send %d files: more than %d", len(files), MaxFiles)
	}
	buf, err := f.append(make([]byte, 0, headerSize+len(f.JSON)+1+len(f.Payload)))
	if err != nil {
		return err
	}
	var oob []byte
	if len(files) > 0 {
		fds, err := rawFDs(files)
		if err != nil {
			return err
		}
		oob = unix.UnixRights(fds...)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	for whole := len(buf); len(buf) > 0; {
		n, err := c.t.write(buf, oob)
		switch {
		case err != nil && len(buf) < whole:
			return fmt.Errorf("send frame: %w: %w", errTorn, err)
		case err != nil:
			return fmt.Errorf("send frame: %w", err)
		}
		buf, oob = buf[n:], nil
	}
	// The descriptors were sent by number: they must outlive the call.
	keepAlive(files)
	return nil
}

// Recv reads one frame. The caller owns the received files, which are
// close-on-exec. The error is io.EOF at a clean end between two frames.
func (c *Conn) Recv() (Frame, []*os.File, error) {
	var header [headerSize]byte
	var files []*os.File
	for got := 0; got < headerSize; {
		n, fs, err := c.recvWithFiles(header[got:])
		files = append(files, fs...)
		if err == nil && n == 0 {
			err = io.EOF
			if got > 0 {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil {
			closeAll(files)
			return Frame{}, nil, err
		}
		got += n
	}
	length, kind, err := parseHeader(header[:])
	if err != nil {
		closeAll(files)
		return Frame{}, nil, err
	}
	body, err := c.recvBody(length)
	if err != nil {
		closeAll(files)
		return Frame{}, nil, err
	}
	return splitBody(kind, body), files, nil
}

// recvBody reads exactly length bytes. Memory grows with what has arrived, not
// with what the header promises.
func (c *Conn) recvBody(length int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(length, step))
	for len(body) < length {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, _, _, err := c.t.read(body[len(body):min(cap(body), length)], nil)
		if err != nil {
			return nil, fmt.Errorf("receive frame: %w", err)
		}
		if n == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		body = body[:len(body)+n]
	}
	return body, nil
}

func (c *Conn) recvWithFiles(p []byte) (int, []*os.File, error) {
	if c.oob == nil {
		c.oob = make([]byte, unix.CmsgSpace(4*MaxFiles))
	}
	oob := c.oob
	n, oobn, truncated, err := c.t.read(p, oob)
	if err != nil {
		return 0, nil, fmt.Errorf("receive frame: %w", err)
	}
	files, err := parseFiles(oob[:oobn])
	if err == nil && truncated {
		err = fmt.Errorf("%w: descriptors were cut off", ErrMalformed)
	}
	if err != nil {
		closeAll(files)
		return 0, nil, err
	}
	return n, files, nil
}

func parseFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control data: %w", ErrMalformed, err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials and the like are no concern of ours
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// SendWord sends a word between shim and stage; payload may be nil.
func (c *Conn) SendWord(name string, payload []byte, files ...*os.File) error {
	if err := c.Send(Frame{Kind: KindWord, JSON: []byte(name), Payload: payload}, files...); err != nil {
		return fmt.Errorf("word %s: %w", name, err)
	}
	return nil
}

// RecvWord receives a frame that must be a word.
func (c *Conn) RecvWord() (Word, []*os.File, error) {
	f, files, err := c.Recv()
	if err != nil {
		return Word{}, nil, err
	}
	if f.Kind != KindWord {
		closeAll(files)
		return Word{}, nil, fmt.Errorf("%w: kind %d where a word was due", ErrMalformed, f.Kind)
	}
	return Word{Name: string(f.JSON), Payload: f.Payload}, files, nil
}

// SendEvent sends an event with a JSON body, which may be nil.
func (c *Conn) SendEvent(name string, body any, files ...*os.File) error {
	ev := Event{Name: name}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode event %s: %w", name, err)
		}
		ev.Body = raw
	}
	return c.sendEvent(ev, files...)
}

func (c *Conn) sendEvent(ev Event, files ...*os.File) error {
	raw, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", ev.Name, err)
	}
	if err := c.Send(Frame{Kind: KindEvent, JSON: raw}, files...); err != nil {
		return fmt.Errorf("event %s: %w", ev.Name, err)
	}
	return nil
}

// RecvEvent receives a frame that must be an event.
func (c *Conn) RecvEvent() (Event, []*os.File, error) {
	f, files, err := c.Recv()
	if err != nil {
		return Event{}, nil, err
	}
	ev, err := decodeEvent(f)
	if err != nil {
		closeAll(files)
		return Event{}, nil, err
	}
	return ev, files, nil
}

func decodeEvent(f Frame) (Event, error) {
	if f.Kind != KindEvent {
		return Event{}, fmt.Errorf("%w: kind %d where an event was due", ErrMalformed, f.Kind)
	}
	var ev Event
	if err := json.Unmarshal(f.JSON, &ev); err != nil {
		return Event{}, fmt.Errorf("%w: event: %w", ErrMalformed, err)
	}
	return ev, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
