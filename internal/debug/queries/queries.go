// Package queries follows the questions for names that a running container asks:
// what was asked, whom, what came back and when, and which process has asked.
//
// There are two who know. Where a network has names, the container asks the name
// server that we have in it, which tells of each question (internal/network/keeper).
// Whoever asks other servers is seen by the packets from and to port 53 in the
// container's network namespace (internal/linux/packet). Each event says which of
// them has told. Neither needs eBPF, and neither waits for the reader: what comes
// faster than it is read is dropped and counted.
//
// The process is found by its socket, while it waits for the answer. If it has its
// answer before it is looked for, it is not known.
package queries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/packet"
	"github.com/portholehq/porthole/internal/linux/sockowner"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/resolver"
	"github.com/portholehq/porthole/internal/pcap/filter"
	"github.com/portholehq/porthole/internal/problem"
)

// Source is what knows the containers: the engine.
type Source interface {
	TraceQueries(ref string) (t engine.QueriesTarget, release func(), err error)
}

var _ Source = (*engine.Engine)(nil)

// Options select what is told.
type Options struct {
	Container string
	Failed    bool          // only those that have no answer, or an error for one
	Slow      time.Duration // only those that take so long
	Count     int           // end after so many; 0: no end
	Duration  time.Duration // 0: no end
}

// Why it has ended.
var (
	errEnded = errors.New("the container has ended")
	errTime  = errors.New("the time is over")
	errCount = errors.New("so many were asked for")
)

// Run tells of a running container's questions until ctx ends, the container does,
// or what was asked for is there, which are all no errors. The first event says
// that it has begun and who tells, the last why it has ended. Emit is called by one
// goroutine; its error ends it and is returned.
func Run(ctx context.Context, src Source, o Options, emit func(*api.TraceEvent) error) error {
	target, release, err := src.TraceQueries(o.Container)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{o: o, target: target, emit: emit, stop: cancel, events: make(chan *api.TraceEvent, 256), gone: make(chan struct{})}
	if s.socket, err = open(target.NetNS); err != nil {
		return problem.WithHint(errdefs.ErrUnavailable.WithMessage("packets cannot be seen: "+err.Error()), "see what was asked of our own name server with: porthole net dns "+target.Name)
	}
	defer s.socket.Close()
	if o.Duration > 0 {
		timer := time.AfterFunc(o.Duration, func() { cancel(errTime) })
		defer timer.Stop()
	}
	go func() {
		select {
		case <-target.Done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return s.run(ctx)
}

// open begins to take packets.
func open(netns *os.File) (*packet.Socket, error) {
	// What is sent back by ICMP is about a question, perhaps.
	program, err := filter.Compile("port 53 or icmp or icmp6", nil)
	if err != nil {
		return nil, err
	}
	return packet.Open(packet.Options{NetNS: netns, Filter: program})
}

// session is a Run under way.
type session struct {
	o      Options
	target engine.QueriesTarget
	emit   func(*api.TraceEvent) error
	stop   context.CancelCauseFunc
	socket *packet.Socket

	events chan *api.TraceEvent
	gone   chan struct{} // closed when nobody reads events any more

	told int

	mu      sync.Mutex
	lost    uint64 // not by the kernel
	leftOut uint64
	looked  rate
}

func (s *session) run(ctx context.Context) error {
	var producers sync.WaitGroup
	begun := make(chan error, 1)
	if s.target.Follow != nil {
		producers.Go(func() { s.follow(ctx, begun) })
	} else {
		begun <- nil
	}
	err := <-begun
	if err == nil {
		producers.Go(func() { s.packets(ctx) })
		err = s.begin()
	}
	done := make(chan struct{})
	go func() {
		producers.Wait()
		close(done)
	}()
	if err == nil {
		err = s.pass(done)
	}
	s.stop(err)
	close(s.gone)
	<-done
	if err != nil {
		return err
	}
	return s.end(ctx)
}

func (s *session) begin() error {
	e := &api.TraceEvent{Kind: api.TraceBegin, Time: time.Now().UTC(), Sources: []string{api.SourcePackets}}
	if s.target.Follow != nil {
		e.Sources = []string{api.SourceResolver, api.SourcePackets}
	}
	return s.emit(e)
}

// pass emits what the producers send until they are done.
func (s *session) pass(done <-chan struct{}) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var told uint64 // of what was lost
	for {
		select {
		case e := <-s.events:
			if err := s.event(e); err != nil {
				return err
			}
		case <-tick.C:
			if lost := s.dropped(); lost > told {
				if err := s.emit(&api.TraceEvent{Kind: api.TraceLost, Time: time.Now().UTC(), Lost: lost - told}); err != nil {
					return err
				}
				told = lost
			}
		case <-done:
			for len(s.events) > 0 {
				if err := s.event(<-s.events); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

func (s *session) event(e *api.TraceEvent) error {
	if e.Kind == api.TraceDNS {
		if s.o.Count > 0 && s.told == s.o.Count || s.o.Failed && !e.DNS.Failed() || e.TookNanoseconds < int64(s.o.Slow) {
			return nil
		}
		s.told++
	}
	if err := s.emit(e); err != nil {
		return err
	}
	if s.told == s.o.Count && s.o.Count > 0 {
		s.stop(errCount)
	}
	return nil
}

func (s *session) end(ctx context.Context) error {
	why := "it was told to"
	for _, err := range []error{errEnded, errTime, errCount} {
		if errors.Is(context.Cause(ctx), err) {
			why = err.Error()
		}
	}
	e := &api.TraceEvent{Kind: api.TraceEnd, Time: time.Now().UTC(), Sent: uint64(s.told), Lost: s.dropped(), Why: why}
	s.mu.Lock()
	e.LeftOut = s.leftOut
	s.mu.Unlock()
	return s.emit(e)
}

// dropped is what was lost so far: packets, or questions.
func (s *session) dropped() uint64 {
	stats, _ := s.socket.Stats() // what it was before, if it cannot be asked
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost + stats.Dropped
}

func (s *session) lose(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += n
}

// send gives an event to who emits them. What cannot wait has room elsewhere: the
// kernel's, or the keeper's.
func (s *session) send(e *api.TraceEvent) {
	select {
	case s.events <- e:
	case <-s.gone:
	}
}

// lastWords is how long the name server of a container that has ended may take to
// tell the rest.
const lastWords = 2 * time.Second

// follow tells of what our name server is asked, until ctx ends. begun gets the
// first error, or nil.
func (s *session) follow(ctx context.Context, begun chan<- error) {
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errEnded) {
			time.AfterFunc(lastWords, cancel)
		} else {
			cancel()
		}
	})()
	first, connected := true, false
	for {
		err := s.target.Follow(following, func(line keeper.Followed) error {
			if first {
				begun <- nil
			}
			first, connected = false, true
			s.lose(line.Dropped)
			if line.Query != nil {
				s.resolved(line.Query)
			}
			return nil
		})
		switch {
		case first:
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			begun <- fmt.Errorf("follow the name server of the container: %w", err)
			return
		case err == nil || ctx.Err() != nil:
			return
		case connected:
			connected = false
			s.send(&api.TraceEvent{Kind: api.TraceLost, Time: time.Now().UTC(), Why: "its name server has ended: what it was asked until there is another is not known"})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(restart):
		}
	}
}

// restart is between two attempts to follow a name server that was killed.
const restart = 300 * time.Millisecond

// resolved tells of a question that our name server was asked.
func (s *session) resolved(q *resolver.Query) {
	if !s.mine(q.Asker) {
		return
	}
	e := &api.TraceEvent{Kind: api.TraceDNS, Time: q.At.UTC(), TookNanoseconds: int64(q.Took), DNS: &api.TraceQuery{
		Name: q.Name, Type: q.Type, Protocol: q.Protocol, Server: q.Server, Code: q.Code, Answers: q.Answers, Error: q.Error, Source: api.SourceResolver,
	}}
	process(e, q.Asker)
	s.send(e)
}

// mine tells whether a question is the container's. In a network that others share
// one of which the process is not known is left out.
func (s *session) mine(p *sockowner.Process) bool {
	if !s.target.Shared {
		return true
	}
	if p == nil {
		s.mu.Lock()
		s.leftOut++
		s.mu.Unlock()
		return false
	}
	pids, err := s.target.Pids()
	return err == nil && slices.Contains(pids, p.PID)
}

// glance is how long a packet is waited for at once.
const glance = 200 * time.Millisecond

// packets tells of what packets say, until ctx ends.
func (s *session) packets(ctx context.Context) {
	b := &book{
		asked: map[question]*api.TraceEvent{}, streams: map[flow]*stream{}, tell: s.send,
		who: func(proto string, client, server netip.AddrPort) (*sockowner.Process, bool) {
			return s.who(ctx, proto, client, server)
		},
	}
	var lost uint64
	for ctx.Err() == nil {
		_ = s.socket.SetReadDeadline(time.Now().Add(glance)) // one of a socket that is open
		p, err := s.socket.Read()
		switch {
		case err == nil:
			b.packet(p)
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, os.ErrDeadlineExceeded):
		default:
			s.stop(fmt.Errorf("read packets: %w", err))
		}
		b.expire(time.Now())
		s.lose(b.lost - lost)
		lost = b.lost
	}
	now := time.Now()
	for { // what had come in by then
		p, err := s.socket.Waiting()
		if err != nil && !errors.Is(err, unix.ENETDOWN) || err == nil && p.Time.After(now) {
			break
		}
		if err == nil {
			b.packet(p)
		}
	}
	b.rest(now)
	s.lose(b.lost - lost)
}

// who tells of the process that has asked a server, and whether that is told: what
// our own name server passes on is told by that.
func (s *session) who(ctx context.Context, proto string, client, server netip.AddrPort) (*sockowner.Process, bool) {
	var p *sockowner.Process
	if s.looked.ok(time.Now()) {
		if pids, err := s.target.Pids(); err == nil {
			if found, ok := sockowner.Find(s.target.NetNS, proto, client, server, pids); ok {
				p = &found
			}
		}
	}
	if p == nil && s.target.AskedByUs != nil {
		if ours, err := s.target.AskedByUs(ctx, proto, client); err == nil && ours {
			return nil, false
		}
	}
	if s.target.Shared && p == nil {
		return nil, s.mine(p)
	}
	return p, true
}

// rate bounds how often processes are looked for, which takes a thread and some
// hundred system calls.
type rate struct {
	since time.Time
	n     int
}

const mostLooks = 200 // in a second

func (r *rate) ok(now time.Time) bool {
	if now.Sub(r.since) >= time.Second {
		r.since, r.n = now, 0
	}
	r.n++
	return r.n <= mostLooks
}
