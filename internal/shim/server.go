package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// Config is what a Server is made of.
type Config struct {
	// Listener is where daemons connect. Serve closes it.
	Listener *net.UnixListener
	// StateDir gets exit.json, LogDir the log. Both stay open until Serve
	// returns.
	StateDir, LogDir *os.File
	// Executable is the path that re-executes this binary; StageArgs
	// and ServeArgs are the argument lists, program name included, that make
	// it the stage and another shim.
	Executable           string
	StageArgs, ServeArgs []string
	// Early is the birth of a stage that is forked before anything else, nil for
	// none.
	Early *Early
	// PlanFormat is the newest form of a plan that the stage reads; see
	// wire.State.
	PlanFormat int
	// Version is shown in the state.
	Version string
}

// Limits of what a server remembers and how long it waits.
const (
	rememberedExits  = 32
	rememberedErrors = 8
	// sendTimeout is what a connection may take for a reply or an event; a
	// daemon that reads nothing for so long is cut off. It finds everything
	// in the state when it is back.
	sendTimeout = 10 * time.Second
	// idleTimeout ends a shim that has neither a process nor a daemon: its
	// daemon died amidst a start.
	idleTimeout = 60 * time.Second
)

// Server is a running shim.
type Server struct {
	cfg  Config
	quit chan struct{} // closed by end
	// exitAsked receives when a state with the exit has been told.
	exitAsked chan struct{}

	// wg counts the goroutines that must be through before Serve returns.
	wg sync.WaitGroup

	// forkMu guards what follows and is held while a stage is forked. Whoever
	// holds it may take mu.
	forkMu    sync.Mutex
	threshold *threshold
	early     *process // the first process's stage, forked before it was asked for
	expected  *process // an exec's stage, likewise
	expiry    *time.Timer

	// mu guards what follows. It is never held across anything that may
	// block.
	mu       sync.Mutex
	ending   bool
	conns    map[*net.UnixConn]*wire.Conn
	idle     *time.Timer
	procs    map[string]*process
	first    *process // the container's first process; nil before create
	out      *output  // of the first process
	reserved bool     // create is making out
	spec     wire.StartSpec
	exit     *wire.Exit // of the first process
	flushing int        // work that must end before the shim does
	exits    []wire.Exited
	problems []string
}

// New makes a server; Serve runs it.
func New(cfg Config) *Server {
	return &Server{
		cfg:  cfg,
		quit: make(chan struct{}),
		// One that is not waited for yet is kept.
		exitAsked: make(chan struct{}, 1),
		conns:     map[*net.UnixConn]*wire.Conn{},
		procs:     map[string]*process{},
	}
}

// Serve answers daemons until the container has ended, or shutdown was asked
// for, or nobody has been there for a while and there is no container.
func (s *Server) Serve() error {
	s.forkEarly()
	s.mu.Lock()
	s.idle = time.AfterFunc(idleTimeout, s.endIfIdle)
	s.mu.Unlock()
	accepted := make(chan error, 1)
	go func() { accepted <- s.accept() }()
	<-s.quit
	s.idle.Stop()
	s.cfg.Listener.Close()
	s.dropStages()
	err := <-accepted
	s.mu.Lock()
	for nc := range s.conns {
		_ = nc.CloseRead() // ends its receiver; what is being sent goes out
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.leaveThreshold()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) accept() error {
	for {
		nc, err := s.cfg.Listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors or memory: the container must live on.
			s.note(fmt.Errorf("accept: %w", err))
			select {
			case <-time.After(time.Second):
				continue
			case <-s.quit:
				return net.ErrClosed
			}
		}
		s.serveConn(nc)
	}
}

func (s *Server) serveConn(nc *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		nc.Close()
		return
	}
	c := wire.NewConn(nc)
	s.conns[nc] = c
	s.idle.Stop()
	s.wg.Go(func() { s.receive(nc, c) })
}

// receive reads requests until the daemon goes or stops making sense.
func (s *Server) receive(nc *net.UnixConn, c *wire.Conn) {
	var calls sync.WaitGroup
	for {
		f, files, err := c.Recv()
		if err != nil {
			break
		}
		req, payload, err := parseRequest(f)
		if err != nil {
			closeFiles(files)
			break
		}
		calls.Go(func() { s.call(nc, c, req, payload, files) })
	}
	calls.Wait()
	s.mu.Lock()
	delete(s.conns, nc)
	if len(s.conns) == 0 && !s.ending {
		s.idle.Reset(idleTimeout)
	}
	s.mu.Unlock()
	nc.Close()
}

func parseRequest(f wire.Frame) (wire.Request, []byte, error) {
	var req wire.Request
	if f.Kind != wire.KindRequest {
		return req, nil, wire.ErrMalformed
	}
	if err := json.Unmarshal(f.JSON, &req); err != nil {
		return req, nil, fmt.Errorf("%w: request: %w", wire.ErrMalformed, err)
	}
	return req, f.Payload, nil
}

// isHeard says whether any daemon is connected.
func (s *Server) isHeard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) > 0
}

// send writes one frame, but does not wait for ever. It says whether the frame
// is out.
func (s *Server) send(nc *net.UnixConn, c *wire.Conn, f wire.Frame, files ...*os.File) bool {
	nc.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err := c.Send(f, files...); err != nil {
		_ = nc.CloseRead() // half a frame may be out: the conversation is over
		return false
	}
	return true
}

// broadcast tells an event to every connected daemon and returns when each has
// it, or was given up. The result is how many have it.
func (s *Server) broadcast(name string, body any) int {
	raw, err := json.Marshal(body)
	if err == nil {
		raw, err = json.Marshal(wire.Event{Name: name, Body: raw})
	}
	if err != nil {
		s.note(fmt.Errorf("encode event %s: %w", name, err))
		return 0
	}
	s.mu.Lock()
	conns := make(map[*net.UnixConn]*wire.Conn, len(s.conns))
	maps.Copy(conns, s.conns)
	s.mu.Unlock()
	var sent sync.WaitGroup
	var told atomic.Int32
	for nc, c := range conns {
		sent.Go(func() {
			if s.send(nc, c, wire.Frame{Kind: wire.KindEvent, JSON: raw}) {
				told.Add(1)
			}
		})
	}
	sent.Wait()
	return int(told.Load())
}

// note keeps a problem that no call can be told of, for the state.
func (s *Server) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) >= rememberedErrors {
		s.problems = append(s.problems[:0], s.problems[1:]...)
	}
	s.problems = append(s.problems, time.Now().UTC().Format(time.RFC3339)+" "+err.Error())
}

// endIfIdle ends a shim that nobody will come back for.
func (s *Server) endIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 && len(s.procs) == 0 && s.flushing == 0 {
		s.endLocked()
	}
}

// endIfDone ends the shim once the container has ended and all is told.
func (s *Server) endIfDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit != nil && len(s.procs) == 0 && s.flushing == 0 {
		s.endLocked()
	}
}

func (s *Server) endLocked() {
	if !s.ending {
		s.ending = true
		close(s.quit)
	}
}

// hold and release bracket work that must be through before the shim ends.
func (s *Server) hold() {
	s.mu.Lock()
	s.flushing++
	s.mu.Unlock()
}

func (s *Server) release() {
	s.mu.Lock()
	s.flushing--
	s.mu.Unlock()
	s.endIfDone()
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
