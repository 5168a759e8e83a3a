// Package server speaks the Docker Engine API, and Porthole's own endpoints
// below /porthole/, over HTTP.
//
// [New] makes a [Server] on a [Backend], which in the daemon is the engine;
// [Server.Serve] answers on a listener until [Server.Shutdown]. The surface is
// the table in routes.go; each group of endpoints has its file. What may happen
// to a container is the engine's business: this package reads requests, writes
// answers, carries streams, and knows how the API looked in its older versions.
//
// # Streams
//
// Attach and exec take the connection over ("hijack"):
//
//	client                                server
//	POST /v1.51/containers/web/attach  →
//	Connection: Upgrade, Upgrade: tcp
//	                                   ←  HTTP/1.1 101 UPGRADED
//	                                      Content-Type: application/vnd.docker.multiplexed-stream
//	stdin bytes                        →
//	                                   ←  {1,0,0,0, length} stdout …, {2,0,0,0, length} stderr …
//	shutdown(WR): stdin ends           →
//	                                   ←  shutdown(WR): output has ended
//
// A client that does not ask for the upgrade gets "200 OK" and the raw stream
// after it. With a terminal the output has no frames.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portholehq/porthole/api"
)

// Options are what a server needs. Backend and Logger are required.
type Options struct {
	Backend Backend
	// Builder builds images; nil where nothing does.
	Builder Builder
	Logger  *slog.Logger
	// Version is the daemon's, as in the Server header.
	Version string
	// Debug tells whether requests are logged. It may change while the server
	// runs. Nil means no.
	Debug func() bool
	// Experimental is what clients are told about experimental features.
	Experimental func() bool
	// StartedAt is when the daemon began to start.
	StartedAt time.Time
	// Inspect adds what other parts tell of themselves to GET /porthole/daemon.
	Inspect func() map[string]any
	// Protection tells who can come by the API; nil: that is not told.
	Protection func() []api.SecurityCheck
}

// Server answers requests on any number of listeners.
type Server struct {
	backend Backend
	log     *slog.Logger
	opts    Options
	router  router
	http    *http.Server
	hangups *hangups
	ops     operations
	// readyAfter is nanoseconds from StartedAt to the first Serve.
	readyAfter atomic.Int64

	// streams counts hijacked connections, which http.Server knows nothing of.
	streams sync.WaitGroup
	// stopping ends when streams have to.
	stopping context.Context
	stop     context.CancelFunc
}

// New returns a server that listens nowhere yet.
func New(o Options) (*Server, error) {
	if o.Debug == nil {
		o.Debug = func() bool { return false }
	}
	if o.Experimental == nil {
		o.Experimental = func() bool { return false }
	}
	if o.StartedAt.IsZero() {
		o.StartedAt = time.Now()
	}
	hangups, err := newHangups()
	if err != nil {
		return nil, err
	}
	s := &Server{backend: o.Backend, log: o.Logger, opts: o, hangups: hangups}
	s.ops.prefix = strconv.FormatInt(o.StartedAt.Unix(), 36) + "-"
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.router = newRouter(s.routes())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Minute, // as dockerd: against slow headers, not against long requests
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	return s, nil
}

// Serve answers on l until Shutdown, and then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.readyAfter.CompareAndSwap(0, int64(time.Since(s.opts.StartedAt)))
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listeners, waits for plain requests until ctx ends, and
// then ends what is left, streams included. It returns after the last stream.
func (s *Server) Shutdown(ctx context.Context) error {
	// Streams and endless answers (logs -f, events) end at once: they would
	// hold up the daemon for as long as their client likes.
	s.stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.streams.Wait()
	return errors.Join(err, s.hangups.close())
}
