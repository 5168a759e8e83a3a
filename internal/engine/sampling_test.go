package engine

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/record/sampler"
)

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
	if _, _, err := s.Next(t.Context(), id, 2); err != nil {
		t.Fatal(err)
	}
	var got *container.StatsResponse
	if err := w.ContainerStats(t.Context(), "box", false, false, func(r *container.StatsResponse) error { got = r; return nil }); err != nil {
		t.Fatal(err)
	}
	if got.PreCPUStats.CPUUsage.TotalUsage == 0 || got.CPUStats.CPUUsage.TotalUsage-got.PreCPUStats.CPUUsage.TotalUsage != uint64(time.Millisecond) {
		t.Errorf("CPU time %d after %d, want the last two samples", got.CPUStats.CPUUsage.TotalUsage, got.PreCPUStats.CPUUsage.TotalUsage)
	}
	if _, err := os.Stat(w.Engine.dir(id, "samples")); err != nil {
		t.Error(err)
	}
	if err := w.ContainerStop(t.Context(), "box", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	<-w.registry.all()[0].view().settled
	if _, _, err := s.Latest(id); !errors.Is(err, sampler.ErrUnknown) {
		t.Errorf("after the end: %v, want %v", err, sampler.ErrUnknown)
	}
}
