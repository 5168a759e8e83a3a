package engine

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/sampler"
)

// countedTask counts how often its statistics are read.
type countedTask struct {
	Task
	reads atomic.Int32
}

func (t *countedTask) Stats() (*container.StatsResponse, error) {
	t.reads.Add(1)
	return t.Task.Stats()
}

// TestStreamsShare has many readers of one container: they see the sampler's
// numbers, cost one reading of the rest, and go on over a restart.
func TestStreamsShare(t *testing.T) {
	w := newWorld(t)
	s, err := sampler.New(sampler.Options{Interval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.deps.Sampler = s
	w.create("box", nil, "sleep")
	w.start("box")
	c := w.registry.all()[0]
	counted := &countedTask{Task: c.view().task}
	c.update(func(v *view) { v.task = counted })
	const readers, frames = 20, 5
	var wg sync.WaitGroup
	seen := make([][]*api.Stats, readers)
	for i := range readers {
		wg.Go(func() {
			err := w.ContainerStats(t.Context(), "box", true, false, func(r *api.Stats) error {
				seen[i] = append(seen[i], r)
				if len(seen[i]) == frames {
					return io.EOF
				}
				return nil
			})
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, list := range seen {
		for i := 1; i < frames; i++ {
			before, now := list[i-1], list[i]
			if !now.Read.After(before.Read) || now.CPUStats.CPUUsage.TotalUsage <= before.CPUStats.CPUUsage.TotalUsage || now.PreCPUStats.CPUUsage.TotalUsage == 0 || now.Porthole == nil {
				t.Fatalf("frame %d: %+v after %+v", i, now, before)
			}
		}
	}
	if got := counted.reads.Load(); got > 4*frames {
		t.Errorf("%d readers of %d frames read %d times", readers, frames, got)
	}
}

// TestStatsOfStopped has a stream over the end of a run: zeros, as Docker sends.
func TestStatsOfStopped(t *testing.T) {
	w := newWorld(t)
	w.create("box", nil, "sleep")
	count := 0
	err := w.ContainerStats(t.Context(), "box", true, false, func(r *api.Stats) error {
		count++
		if !r.Read.IsZero() || r.Name != "/box" || r.Porthole != nil || r.MemoryStats.Usage != 0 {
			t.Errorf("%+v", r)
		}
		if count == 2 {
			return io.EOF
		}
		return nil
	})
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestOnlineCPUs(t *testing.T) {
	for text, want := range map[string]uint32{"0\n": 1, "0-3\n": 4, "0-3,8,10-11\n": 7, "": 0, "x": 0, "3-1": 0} {
		path := filepath.Join(t.TempDir(), "online")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := onlineCPUs(path); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestSamplingFollowsRuns(t *testing.T) {
	w := newWorld(t)
	s, err := sampler.New(sampler.Options{Interval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.deps.Sampler = s

	id := w.create("box", nil, "sleep")
	w.start("box")
	for seq := uint64(0); seq < 2; {
		_, last, err := s.Next(t.Context(), id, seq)
		if err != nil {
			t.Fatal(err)
		}
		seq = last.Seq
	}
	var got *api.Stats
	if err := w.ContainerStats(t.Context(), "box", false, false, func(r *api.Stats) error { got = r; return nil }); err != nil {
		t.Fatal(err)
	}
	if got.PreCPUStats.CPUUsage.TotalUsage == 0 || got.CPUStats.CPUUsage.TotalUsage-got.PreCPUStats.CPUUsage.TotalUsage != uint64(time.Millisecond) {
		t.Errorf("CPU time %d after %d, want the last two samples", got.CPUStats.CPUUsage.TotalUsage, got.PreCPUStats.CPUUsage.TotalUsage)
	}
	var lines []*api.Sample
	keep := func(s *api.Sample) error { lines = append(lines, s); return nil }
	if err := w.ContainerSamples(t.Context(), "box", SamplesOptions{}, keep); err != nil || len(lines) < 2 {
		t.Fatalf("%d samples, %v", len(lines), err)
	}
	if lines[0].Rate != nil || lines[1].Rate == nil || lines[1].CPU.Usage <= lines[0].CPU.Usage || lines[1].Memory != nil {
		t.Errorf("samples: %+v, %+v", lines[0], lines[1])
	}
	if err := w.ContainerStop(t.Context(), "box", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	<-w.registry.all()[0].view().settled
	if _, _, err := s.Latest(id); !errors.Is(err, sampler.ErrUnknown) {
		t.Errorf("after the end: %v, want %v", err, sampler.ErrUnknown)
	}
}
