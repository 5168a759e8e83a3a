// Package sampler takes the samples of all running containers, once per second.
//
// A [Sampler] has one goroutine. At each full second it goes through the
// containers that were given to it by [Sampler.Add], reads each by its [Source],
// appends the [sample.Sample] to the container's ring on disk and keeps the last
// two in memory: [Sampler.Latest] answers from there without waiting, and
// [Sampler.Next] waits for the next one.
//
// [OpenSource] is the source for a container in a control group and a network
// namespace. A source that tells that its container is gone ([ErrEnded]) is not
// asked again; what ends a container's sampling is [Sampler.Remove].
package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/linux/ifstat"
	"github.com/portholehq/porthole/internal/record/sample"
)

// ErrEnded says that there is nothing to read any more.
var ErrEnded = errors.New("container has ended")

// ErrUnknown says that a container is not sampled.
var ErrUnknown = errors.New("container is not sampled")

// Reading is one sample with what the ring has no room for.
type Reading struct {
	Seq uint64 // counts the readings of this container since Add; 0 is none
	sample.Sample
	Interfaces []ifstat.Interface // loopback aside
	PerCPU     []uint64           // CPU time by processor in nanoseconds; nil on cgroup v2, which does not count it
}

// A Source reads the counters of one container. Its methods are called by one
// goroutine at a time.
type Source interface {
	// Read fills in all of r but Seq, Time and HostCPU. It may use the memory of
	// r.Interfaces. It returns ErrEnded when the container is gone, and must not
	// wait.
	Read(r *Reading, s *Scratch) error
	Close() error
}

// Options of a Sampler.
type Options struct {
	Interval time.Duration // 0 means one second
	Capacity int           // of a new ring, see sample.Options
	Logger   *slog.Logger  // nil: nothing is logged
}

// Sampler samples containers. Its methods may be called from any goroutine, and
// none waits for a reading but Next, Remove and Close.
type Sampler struct {
	options Options
	cancel  context.CancelFunc
	done    chan struct{}
	scratch Scratch
	host    hostCPU

	// pass is held while a reading is made. It comes before mu.
	pass sync.Mutex

	mu         sync.Mutex
	containers map[string]*container
	fresh      chan struct{} // closed and replaced after each round
	stats      Stats
}

// Stats tell how the sampler does.
type Stats struct {
	Containers int
	Rounds     uint64
	Missed     uint64        // rounds that were left out because the one before took too long
	Failed     uint64        // readings and writes that went wrong
	LastRound  time.Duration // how long it took
}

type container struct {
	id     string
	source Source
	ring   *sample.Writer

	// The fields below are guarded by Sampler.mu. What the lists of last and
	// previous hold is never changed in place.
	previous, last Reading
	ended, failing bool
}

// New starts a sampler. Close ends it.
func New(o Options) (*Sampler, error) {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sampler{options: o, done: make(chan struct{}), containers: map[string]*container{}, fresh: make(chan struct{})}
	if err := s.host.open(); err != nil {
		return nil, fmt.Errorf("start sampler: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(ctx)
	return s, nil
}

// Close ends the sampling of all containers and returns after the last reading. A
// Sampler can be closed twice.
func (s *Sampler) Close() error {
	s.cancel()
	<-s.done
	s.pass.Lock()
	defer s.pass.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.host.close()}
	for id, c := range s.containers {
		errs = append(errs, c.close())
		delete(s.containers, id)
	}
	return errors.Join(errs...)
}

func (c *container) close() error { return errors.Join(c.source.Close(), c.ring.Close()) }

// Add begins to sample a container into the ring at path, which is made or gone
// on with. A first reading is taken at once. The source belongs to the sampler,
// which closes it even when Add returns an error. A container that is sampled
// already gets the new source, as after a restart.
func (s *Sampler) Add(id, path string, source Source) error {
	if err := s.Remove(id); err != nil && !errors.Is(err, ErrUnknown) {
		return errors.Join(fmt.Errorf("sample container %.12s: %w", id, err), source.Close())
	}
	ring, err := sample.OpenWriter(path, sample.Options{Capacity: s.options.Capacity})
	if err != nil {
		return errors.Join(fmt.Errorf("sample container %.12s: %w", id, err), source.Close())
	}
	c := &container{id: id, source: source, ring: ring}
	s.pass.Lock()
	defer s.pass.Unlock()
	s.mu.Lock()
	if s.containers[id] != nil || s.closed() {
		s.mu.Unlock()
		return errors.Join(fmt.Errorf("sample container %.12s: another began to, or the sampler was closed", id), c.close())
	}
	s.containers[id] = c
	s.mu.Unlock()
	s.takeNow(c)
	s.wake()
	return nil
}

func (s *Sampler) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Remove takes a last reading, if there is still something to read, and ends the
// sampling of a container. Those who wait in Next get ErrUnknown.
func (s *Sampler) Remove(id string) error {
	s.pass.Lock()
	defer s.pass.Unlock()
	s.mu.Lock()
	c := s.containers[id]
	s.mu.Unlock()
	if c == nil {
		return ErrUnknown
	}
	s.takeNow(c)
	s.mu.Lock()
	delete(s.containers, id)
	s.mu.Unlock()
	s.wake()
	return c.close()
}

// Latest returns the last two readings of a container. That before the last has
// Seq 0 if there is none, and the last too if nothing could be read yet. Nobody
// may change what they point to.
func (s *Sampler) Latest(id string) (previous, last Reading, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return Reading{}, Reading{}, ErrUnknown
	}
	return c.previous, c.last, nil
}

// Next is Latest once there is another reading than number seq, which is that
// after it unless the container was given a new source meanwhile. However many
// wait here, they cost the sampler one wake-up. Next returns ErrUnknown when the
// container's sampling ends, ErrEnded when the source has told so, and the cause
// of ctx when that ends.
func (s *Sampler) Next(ctx context.Context, id string, seq uint64) (previous, last Reading, err error) {
	for {
		s.mu.Lock()
		c, fresh := s.containers[id], s.fresh
		if c != nil {
			previous, last = c.previous, c.last
		}
		ended := c != nil && c.ended
		s.mu.Unlock()
		switch {
		case c == nil:
			return Reading{}, Reading{}, ErrUnknown
		case last.Seq > 0 && last.Seq != seq:
			return previous, last, nil
		case ended:
			return previous, last, ErrEnded
		}
		select {
		case <-fresh:
		case <-s.done:
			return Reading{}, Reading{}, ErrUnknown
		case <-ctx.Done():
			return Reading{}, Reading{}, context.Cause(ctx)
		}
	}
}

// Stats tell how the sampler does.
func (s *Sampler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Containers = len(s.containers)
	return st
}

func (s *Sampler) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(s.untilNext(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		begin := time.Now()
		s.round()
		took := time.Since(begin)
		s.mu.Lock()
		s.stats.Rounds++
		s.stats.Missed += uint64(took / s.options.Interval)
		s.stats.LastRound = took
		s.mu.Unlock()
		timer.Reset(s.untilNext(time.Now()))
	}
}

// untilNext aims at the next full interval of the wall clock, so that samples of
// different containers can be laid side by side.
func (s *Sampler) untilNext(now time.Time) time.Duration {
	return now.Truncate(s.options.Interval).Add(s.options.Interval).Sub(now)
}

// round reads all containers. pass is let go between them, so that Add and Remove
// wait for one reading at most.
func (s *Sampler) round() {
	s.mu.Lock()
	list := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		list = append(list, c)
	}
	s.mu.Unlock()
	var host uint64 // once for all: it costs as much as a container
	for i, c := range list {
		s.pass.Lock()
		if i == 0 {
			var err error
			if host, err = s.host.read(); err != nil {
				s.options.Logger.Error("processor time of the host cannot be read", "err", err)
			}
		}
		if s.current(c) {
			s.take(c, time.Now(), host)
		}
		s.pass.Unlock()
	}
	s.wake()
}

// current reports whether a container was not removed meanwhile.
func (s *Sampler) current(c *container) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.containers[c.id] == c && !c.ended
}

// takeNow makes one reading out of turn. pass is held.
func (s *Sampler) takeNow(c *container) {
	host, err := s.host.read()
	if err != nil {
		s.options.Logger.Error("processor time of the host cannot be read", "err", err)
	}
	s.take(c, time.Now(), host)
}

// take makes one reading. Host is 0 if it is not known. pass is held.
func (s *Sampler) take(c *container, now time.Time, host uint64) {
	if c.ended {
		return
	}
	r := Reading{Seq: c.last.Seq + 1}
	err := c.source.Read(&r, &s.scratch)
	r.Time, r.HostCPU = now.Round(0).UTC(), host
	if host > 0 {
		r.Known |= sample.KnownHostCPU
	}
	known, ended := err == nil, errors.Is(err, ErrEnded)
	if known {
		err = c.ring.Append(&r.Sample)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ended = ended
	if known { // also when the disk is full: what is so now need not be kept to be told
		c.previous, c.last = c.last, r
	}
	if err == nil {
		c.failing = false
		return
	}
	if ended {
		return
	}
	s.stats.Failed++
	if !c.failing { // say it once
		s.options.Logger.Warn("container cannot be sampled", "container", c.id, "err", err)
	}
	c.failing = true
}

// wake lets those go on who wait in Next.
func (s *Sampler) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.fresh)
	s.fresh = make(chan struct{})
}
