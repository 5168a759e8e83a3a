package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Name is the process's first argument, by which the daemon's program knows that
// it is to be a keeper.
const Name = "porthole-keeper"

// Server is the keeper's state.
type Server struct {
	version string
	host    hostServers

	mu     sync.Mutex
	boxes  map[string]*box
	coming int       // of Put under way
	used   time.Time // when there was a sandbox or a request
	end    chan struct{}
	ended  bool
}

// Main is the life of the keeper. Its arguments are the path of its socket and
// the version that the daemon had. It returns the exit code.
func Main(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "porthole-keeper: usage: SOCKET VERSION")
		return 2
	}
	// Its end is not the daemon's or the terminal's business.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	s := New(args[1], "/etc/resolv.conf")
	if err := s.Listen(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, "porthole-keeper:", err)
		return 1
	}
	return 0
}

// New returns a keeper without sandboxes. resolvConf names the host's servers.
func New(version, resolvConf string) *Server {
	return &Server{
		version: version, host: hostServers{path: resolvConf}, boxes: map[string]*box{}, used: time.Now(), end: make(chan struct{}),
	}
}

// Listen serves until the keeper has had nothing to do for a while, or Stop.
func (s *Server) Listen(path string) error {
	// The name appears when it can be connected to.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(fresh)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return errors.Join(err, l.Close())
	}
	mine, err := os.Lstat(path)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	tick := time.NewTicker(idle / 10)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			return err
		case <-s.end:
		case <-tick.C:
			if !s.endIfIdle() {
				continue
			}
		}
		// Ports first: the next keeper wants the same ones. Whoever connects from now
		// on finds no keeper, and starts another, whose socket this is perhaps already.
		s.closeAll()
		if now, err := os.Lstat(path); err == nil && os.SameFile(mine, now) {
			_ = os.Remove(path)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = server.Shutdown(ctx)
		cancel()
		return nil
	}
}

// endIfIdle ends a keeper that has had nothing to do for a while. Nobody can give
// it work in between.
func (s *Server) endIfIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.boxes)+s.coming > 0 || time.Since(s.used) < idle {
		return s.ended
	}
	s.ended = true
	close(s.end)
	return true
}

// errEnding is told to whoever comes too late.
var errEnding = errors.New("the keeper is about to end")

func (s *Server) closeAll() {
	s.mu.Lock()
	all := s.boxes
	s.boxes = map[string]*box{}
	s.mu.Unlock()
	for _, b := range all {
		b.close()
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-s.end:
			refuse(w, http.StatusServiceUnavailable, errEnding)
		default:
			answer(w, s.version)
		}
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		s.Stop()
		answer(w, struct{}{})
	})
	mux.HandleFunc("GET /wait", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-s.end:
		}
	})
	mux.HandleFunc("GET /sandboxes", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.list()) })
	mux.HandleFunc("PUT /sandboxes/{id}", func(w http.ResponseWriter, r *http.Request) {
		var spec Sandbox
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		spec.ID = r.PathValue("id")
		numbers, err := s.Put(spec)
		if errors.Is(err, errEnding) {
			refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		if err != nil {
			refuse(w, http.StatusConflict, err)
			return
		}
		answer(w, Answer{HostPorts: numbers})
	})
	mux.HandleFunc("DELETE /sandboxes/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.Drop(r.PathValue("id"))
		answer(w, struct{}{})
	})
	mux.HandleFunc("GET /sandboxes/{id}/queries", func(w http.ResponseWriter, r *http.Request) {
		b := s.find(r.PathValue("id"))
		if b == nil {
			refuse(w, http.StatusNotFound, errors.New("no such sandbox"))
			return
		}
		var q Queries
		q.Last, q.All = b.log.Queries()
		q.Upstreams, q.External = b.Upstreams()
		answer(w, q)
	})
	mux.HandleFunc("GET /sandboxes/{id}/queries/follow", s.follow)
	mux.HandleFunc("GET /sandboxes/{id}/asked", s.asked)
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, err error) {
	r := Refusal{Message: err.Error()}
	var busy *InUseError
	if errors.As(err, &busy) {
		r.InUse, r.Proto, r.Message = busy.Addr, busy.Proto, busy.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(r)
}

// Stop ends Listen.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.end)
	}
}

// Put makes or changes a sandbox and returns the ports of the host.
func (s *Server) Put(spec Sandbox) ([]uint16, error) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, errEnding
	}
	s.used = time.Now()
	s.coming++
	b := s.boxes[spec.ID]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.coming--
		s.mu.Unlock()
	}()
	if b != nil && b.spec.Load().Pid != spec.Pid {
		s.Drop(spec.ID) // of an earlier run
		b = nil
	}
	if b != nil {
		return b.update(spec)
	}
	b, err := newBox(s, spec)
	if err != nil {
		return nil, err
	}
	numbers, err := b.update(spec)
	if err != nil {
		b.close()
		return nil, err
	}
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.boxes[spec.ID] = b
	}
	s.mu.Unlock()
	if ended {
		b.close()
		return nil, errEnding
	}
	go b.watch(func() { s.dropThis(spec.ID, b) })
	return numbers, nil
}

// Drop ends a sandbox. One that is not there is no error.
func (s *Server) Drop(id string) {
	if b := s.find(id); b != nil {
		s.dropThis(id, b)
	}
}

func (s *Server) dropThis(id string, b *box) {
	s.mu.Lock()
	if s.boxes[id] == b {
		delete(s.boxes, id)
	}
	s.used = time.Now()
	s.mu.Unlock()
	b.close()
}

func (s *Server) find(id string) *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boxes[id]
}

func (s *Server) list() []Status {
	s.mu.Lock()
	var all []*box
	for _, b := range s.boxes {
		all = append(all, b)
	}
	s.mu.Unlock()
	out := []Status{}
	for _, b := range all {
		out = append(out, b.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// members are the memberships of a network.
func (s *Server) members(network string) []Membership {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Membership
	for _, b := range s.boxes {
		for _, m := range b.spec.Load().Networks {
			if m.Network == network {
				list = append(list, m)
			}
		}
	}
	return list
}
