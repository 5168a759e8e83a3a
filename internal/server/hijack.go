package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types"
	"github.com/portholehq/porthole/internal/engine"
)

// stream is a client's connection after it was taken over from HTTP.
type stream struct {
	net.Conn
	// early holds what the client sent right behind its request; nil once read.
	early  *bufio.Reader
	closed sync.Once
	onEnd  func()
}

func (s *stream) Read(p []byte) (int, error) {
	if s.early != nil {
		if n := s.early.Buffered(); n > 0 {
			return s.early.Read(p[:min(n, len(p))])
		}
		s.early = nil
	}
	return s.Conn.Read(p)
}

// CloseWrite tells the client that no more output comes. What cannot be half
// closed stays open.
func (s *stream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func (s *stream) Close() error {
	err := net.ErrClosed
	s.closed.Do(func() {
		err = s.Conn.Close()
		s.onEnd()
	})
	return err
}

// hijacker takes the connection of a request over, at most once, and closes it
// in the end.
type hijacker struct {
	server *Server
	r      *request
	cancel context.CancelFunc
	stream *stream
	// protocol is what the connection changes to; empty: a raw stream.
	protocol string
}

// hijack returns a hijacker for r and the context in which its stream lives: it
// ends when the client is gone.
func (s *Server) hijack(r *request) (*hijacker, context.Context, error) {
	// A body left unread would turn up in the stream.
	if _, err := io.Copy(io.Discard, io.LimitReader(r.http.Body, maxJSON)); err != nil {
		return nil, nil, fmt.Errorf("read request body: %w", err)
	}
	ctx, cancel := s.endless(r)
	return &hijacker{server: s, r: r, cancel: cancel}, ctx, nil
}

// open takes the connection over and tells the client so. multiplexed says
// whether the output carries frames.
func (h *hijacker) open(multiplexed bool) (engine.Stream, error) {
	conn, rw, err := h.r.w.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	h.r.op.hijacked.Store(true)
	h.server.streams.Add(1)
	unwatch := h.server.hangups.watch(conn, h.cancel)
	s := &stream{Conn: conn, early: rw.Reader, onEnd: func() {
		unwatch()
		h.server.streams.Done()
	}}
	h.stream = s
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(true)
	}
	if _, err := conn.Write(h.greeting(multiplexed)); err != nil {
		return nil, fmt.Errorf("answer upgrade: %w", err)
	}
	return s, nil
}

// greeting is the head of the answer.
func (h *hijacker) greeting(multiplexed bool) []byte {
	var out bytes.Buffer
	if h.protocol != "" {
		fmt.Fprintf(&out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", h.protocol)
		return out.Bytes()
	}
	kind := types.MediaTypeRawStream
	if h.r.http.Header.Get("Upgrade") != "" {
		if multiplexed && !h.r.before(42) {
			kind = types.MediaTypeMultiplexedStream
		}
		fmt.Fprintf(&out, "HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n", kind)
	} else {
		fmt.Fprintf(&out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n", kind)
	}
	// The headers that every answer has.
	_ = h.r.w.Header().WriteSubset(&out, map[string]bool{"Content-Type": true})
	out.WriteString("\r\n")
	return out.Bytes()
}

// end closes the connection if it was taken over.
func (h *hijacker) end() {
	h.cancel()
	if h.stream != nil {
		_ = h.stream.Close()
	}
}

// flushWriter sends every write on its way at once.
type flushWriter struct{ w *response }

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		f.w.Flush()
	}
	return n, err
}

var _ http.Flusher = (*response)(nil)
