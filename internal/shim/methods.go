package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// call is one request being answered.
type call struct {
	body    json.RawMessage
	payload []byte
	files   []*os.File // closed when the method returns, unless taken

	reply []*os.File      // sent with the answer, then closed
	after func(sent bool) // runs when the answer is out, or could not be sent
}

// decode reads the body into v.
func (c *call) decode(v any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	return nil
}

// take gives n files from the front to the caller, who closes them.
func (c *call) take(n int) ([]*os.File, error) {
	if len(c.files) < n {
		return nil, fmt.Errorf("%d files where %d are due", len(c.files), n)
	}
	taken := c.files[:n:n]
	c.files = c.files[n:]
	return taken, nil
}

// takeOne is take(1) if there is such a file, else nil.
func (c *call) takeOne(there bool) (*os.File, error) {
	if !there {
		return nil, nil
	}
	files, err := c.take(1)
	if err != nil {
		return nil, err
	}
	return files[0], nil
}

// methods is the whole surface of a shim.
var methods = map[string]func(*Server, *call) (any, error){
	wire.MethodCreate:     (*Server).create,
	wire.MethodGo:         (*Server).goOn,
	wire.MethodExec:       (*Server).exec,
	wire.MethodExpect:     (*Server).expect,
	wire.MethodSignal:     (*Server).signal,
	wire.MethodResize:     (*Server).resize,
	wire.MethodCloseStdin: (*Server).closeStdin,
	wire.MethodAttach:     (*Server).attach,
	wire.MethodFeedLog:    (*Server).feedLog,
	wire.MethodState:      (*Server).state,
	wire.MethodSpawn:      (*Server).spawn,
	wire.MethodShutdown:   (*Server).shutdown,
}

func (s *Server) call(nc *net.UnixConn, conn *wire.Conn, req wire.Request, payload []byte, files []*os.File) {
	c := &call{body: req.Body, payload: payload, files: files}
	reply := wire.Reply{ID: req.ID}
	method, ok := methods[req.Method]
	if !ok {
		reply.Error = &wire.Error{Message: fmt.Sprintf("unknown method %q", req.Method)}
	} else if answer, err := method(s, c); err != nil {
		reply.Error = wireError(err)
	} else if answer != nil {
		if reply.Body, err = json.Marshal(answer); err != nil {
			reply.Error = wireError(err)
		}
	}
	closeFiles(c.files)
	sent := false
	if c.after != nil {
		defer func() { c.after(sent) }()
	}
	defer closeFiles(c.reply)
	raw, err := json.Marshal(reply)
	if err != nil {
		s.note(fmt.Errorf("encode reply to %s: %w", req.Method, err))
		return
	}
	sent = s.send(nc, conn, wire.Frame{Kind: wire.KindReply, JSON: raw}, c.reply...)
}

func wireError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	e = &wire.Error{Message: err.Error()}
	errors.As(err, &e.Errno)
	return e
}

func (s *Server) signal(c *call) (any, error) {
	var spec wire.SignalSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	p, err := s.process(spec.Process)
	if err != nil {
		return nil, err
	}
	return nil, p.signal(spec.Signal)
}

func (s *Server) resize(c *call) (any, error) {
	var spec wire.ResizeSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	if spec.Process != "" && spec.Process != wire.Init {
		return nil, &wire.Error{
			Step: "resize", Errno: syscall.ENOTTY,
			Message: fmt.Sprintf("resize %s: the terminal of an exec is held by whoever started it", spec.Process),
		}
	}
	out, err := s.output()
	if err != nil {
		return nil, err
	}
	return nil, out.resize(wire.Size{Height: spec.Height, Width: spec.Width})
}

func (s *Server) closeStdin(*call) (any, error) {
	out, err := s.output()
	if err != nil {
		return nil, err
	}
	out.stdin.close()
	return nil, nil
}

func (s *Server) attach(c *call) (any, error) {
	var spec wire.AttachSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	out, err := s.output()
	if err != nil {
		return nil, err
	}
	files, err := c.take(1)
	if err != nil {
		return nil, err
	}
	return nil, out.attach(files[0], spec)
}

func (s *Server) feedLog(c *call) (any, error) {
	out, err := s.output()
	if err != nil {
		return nil, err
	}
	files, err := c.take(1)
	if err != nil {
		return nil, err
	}
	return nil, out.feeds.add(files[0])
}

func (s *Server) shutdown(c *call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.procs) > 0 {
		return nil, &wire.Error{Step: "shutdown", Errno: syscall.EBUSY, Message: fmt.Sprintf("shut down: %d processes are left", len(s.procs))}
	}
	c.after = func(bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.endLocked()
	}
	return nil, nil
}

// process finds a living process; the empty id means the first one.
func (s *Server) process(id string) (*process, error) {
	if id == "" {
		id = wire.Init
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.procs[id]; p != nil {
		return p, nil
	}
	return nil, noProcess(id)
}

func noProcess(id string) error {
	return &wire.Error{Errno: syscall.ESRCH, Message: fmt.Sprintf("process %q: no such process", id)}
}

// output gives what belongs to the first process while it is there.
func (s *Server) output() (*output, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return nil, noProcess(wire.Init)
	}
	return s.out, nil
}
