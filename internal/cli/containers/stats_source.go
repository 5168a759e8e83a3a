package containers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
)

// silence is how long a container may be silent before its numbers are no
// longer shown.
const silence = 2 * time.Second

// source collects the statistics of one container.
type source struct {
	container string // as it was asked for

	mu    sync.Mutex // guards the rest
	entry statsEntry
	err   error
	// points are what a plot shows.
	points points
}

func (s *source) get() statsEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entry
}

func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *source) set(e statsEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Container = s.container
	s.points.add(s.entry, e)
	s.entry, s.err = e, nil
}

// fail keeps the names and drops the numbers.
func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry = statsEntry{Container: s.container, Name: s.entry.Name, ID: s.entry.ID, Invalid: true}
	s.err = err
}

// collect reads samples until the stream or ctx ends; one only without
// stream. first is called when there is a result to show, and may be called
// again.
func (s *source) collect(ctx context.Context, c *client.Client, stream bool, first func()) {
	defer first()
	resp, err := c.ContainerStats(ctx, s.container, mobyclient.ContainerStatsOptions{
		Stream: stream, IncludePreviousSample: !stream,
	})
	if err != nil {
		s.fail(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	samples := decodeStats(ctx, resp.Body)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(silence):
			s.fail(errors.New("timeout waiting for stats"))
		case sample, ok := <-samples:
			if !ok {
				return
			}
			if sample.err != nil {
				s.fail(sample.err)
				return
			}
			s.set(newStatsEntry(&sample.stats))
		}
		first()
		if !stream {
			return
		}
	}
}

type sample struct {
	stats api.Stats
	err   error
}

// decodeStats decodes samples in a goroutine of its own, which ends when the
// body is closed or ends. An end of the stream closes the channel.
func decodeStats(ctx context.Context, body io.Reader) <-chan sample {
	out := make(chan sample)
	go func() {
		defer close(out)
		dec := json.NewDecoder(body)
		for {
			var v sample
			v.err = dec.Decode(&v.stats)
			if errors.Is(v.err, io.EOF) {
				return
			}
			select {
			case out <- v:
			case <-ctx.Done():
				return
			}
			if v.err != nil {
				return
			}
		}
	}()
	return out
}
