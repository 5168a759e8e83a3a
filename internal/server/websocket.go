package server

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"golang.org/x/net/websocket"

	"github.com/portholehq/porthole/internal/engine"
)

// containerAttachWS is attach for clients that cannot take a connection over,
// such as browsers. Its output carries no frames: a client that wants to tell
// the streams apart opens a websocket for each.
func (s *Server) containerAttachWS(r *request) error {
	tty, err := s.backend.ContainerTTY(r.name)
	if err != nil {
		return err
	}
	o := attachOptions(r)
	if r.before(42) {
		o.Stdin, o.Stdout, o.Stderr = true, true, true
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	ws := &wsServer{ended: make(chan struct{}), served: make(chan struct{})}
	err = s.backend.ContainerAttach(ctx, r.name, o, func() (engine.Stream, error) {
		conn, err := ws.open(r)
		if err != nil {
			return nil, err
		}
		r.op.hijacked.Store(true)
		stream := &wsStream{Conn: conn, gone: cancel}
		if !tty {
			stream.frames = new(unframer)
		}
		return stream, nil
	})
	return ws.end(r, err)
}

// wsServer keeps the library's handler, which owns the connection, busy until
// the attachment has ended.
type wsServer struct {
	opened bool
	ended  chan struct{}
	served chan struct{}
}

var errNoWebsocket = errors.New("the client did not complete the websocket handshake")

func (s *wsServer) open(r *request) (*websocket.Conn, error) {
	s.opened = true
	conns := make(chan *websocket.Conn, 1)
	go func() {
		defer close(s.served)
		websocket.Server{Handler: func(c *websocket.Conn) {
			c.PayloadType = websocket.BinaryFrame
			conns <- c
			<-s.ended
		}}.ServeHTTP(r.w, r.http)
	}()
	select {
	case c := <-conns:
		return c, nil
	case <-s.served:
		return nil, errNoWebsocket
	}
}

// end closes the connection, if there is one, and returns the error if that can
// still be the answer.
func (s *wsServer) end(r *request, err error) error {
	if !s.opened {
		return err
	}
	close(s.ended)
	<-s.served
	if err != nil {
		r.log.Debug("stream ended", "err", err)
	}
	return nil
}

// wsStream is a websocket as the stream of an attachment.
type wsStream struct {
	*websocket.Conn
	frames *unframer // nil for a terminal, whose output has no frames
	gone   func()
	once   sync.Once
}

// Read reads what the client sends. A websocket has no half that could be
// closed: its end is the end of the attachment.
func (s *wsStream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		s.once.Do(s.gone)
	}
	return n, err
}

func (s *wsStream) Write(p []byte) (int, error) {
	if s.frames == nil {
		return s.Conn.Write(p)
	}
	return s.frames.write(s.Conn, p)
}

// CloseWrite does nothing: Close follows.
func (s *wsStream) CloseWrite() error { return nil }

// unframer takes the heads of frames out of a multiplexed stream.
type unframer struct {
	head []byte
	left int
}

// write passes the payloads in p on to w and keeps what is needed for the rest.
func (u *unframer) write(w io.Writer, p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if u.left == 0 {
			n := min(frameHead-len(u.head), len(p))
			u.head = append(u.head, p[:n]...)
			p = p[n:]
			if len(u.head) == frameHead {
				u.left = int(binary.BigEndian.Uint32(u.head[4:]))
				u.head = u.head[:0]
			}
			continue
		}
		n := min(u.left, len(p))
		if _, err := w.Write(p[:n]); err != nil {
			return 0, err
		}
		u.left -= n
		p = p[n:]
	}
	return total, nil
}
