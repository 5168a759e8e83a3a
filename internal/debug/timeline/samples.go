package timeline

import (
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// A sign is a figure that counts as out of the ordinary from a bound on. Its
// beginning and its end are told, not each sample between.
type sign struct {
	kind  string
	bound float64
	of    func(*api.Sample) (value float64, known bool)
	text  string // with the value, as a share
}

func rate(of func(*api.SampleRate) float64) func(*api.Sample) (float64, bool) {
	return func(s *api.Sample) (float64, bool) {
		if s.Rate == nil {
			return 0, false
		}
		return of(s.Rate), true
	}
}

var signs = []sign{
	{"memory-near-limit", 0.9, func(s *api.Sample) (float64, bool) {
		if s.Memory == nil || s.Memory.Limit == nil || *s.Memory.Limit == 0 {
			return 0, false
		}
		return float64(s.Memory.WorkingSet) / float64(*s.Memory.Limit), true
	}, "%.0f%% of the memory limit is in use"},
	{"throttled", 0.25, rate(func(r *api.SampleRate) float64 { return r.Throttled }), "its CPU limit holds it back in %.0f%% of the periods"},
	{"cpu-busy", 0.9, rate(func(r *api.SampleRate) float64 { return r.CPU }), "it keeps %.0f%% of a processor busy"},
	{"cpu-pressure", 0.5, rate(func(r *api.SampleRate) float64 { return r.CPUPressure }), "it waits for a processor %.0f%% of the time"},
	{"memory-pressure", 0.1, rate(func(r *api.SampleRate) float64 { return r.MemoryPressure }), "it waits for memory %.0f%% of the time"},
	{"io-pressure", 0.3, rate(func(r *api.SampleRate) float64 { return r.IOPressure }), "it waits for the disk %.0f%% of the time"},
}

// pause is the distance of samples from which on they are of different times.
const pause = 5 * time.Second

// spell follows one sign through the samples.
type spell struct {
	on   bool
	most float64
	from time.Time
}

// samples adds the times in which figures were out of the ordinary, and jumps of
// what the kernel counts.
func (l *line) samples() {
	watches := make([]spell, len(signs))
	var before *api.Sample
	err := l.src.ContainerSamples(l.ctx, l.id, engine.SamplesOptions{Since: l.o.Since, Until: l.o.Until}, func(s *api.Sample) error {
		gap := before != nil && s.Time.Sub(before.Time) > pause
		for i := range signs {
			if gap {
				l.end(&signs[i], &watches[i], before.Time)
			}
			l.step(&signs[i], &watches[i], s)
		}
		if before != nil && before.OOMKills != nil && s.OOMKills != nil && *s.OOMKills > *before.OOMKills {
			text := fmt.Sprintf("processes that the kernel has killed for want of memory: %d", *s.OOMKills-*before.OOMKills)
			l.add(api.TimelineEntry{Time: s.Time, Source: api.TimelineSample, Kind: "oom-kill", Text: text})
		}
		if before != nil && !gap && before.Memory != nil && s.Memory != nil && s.Memory.Anon > before.Memory.Anon {
			const much = 64 << 20
			if n := s.Memory.Anon - before.Memory.Anon; n >= much && n >= before.Memory.Anon/2 {
				text := fmt.Sprintf("its memory grew by %s within a second, to %s", units.BytesSize(float64(n)), units.BytesSize(float64(s.Memory.Anon)))
				l.add(api.TimelineEntry{Time: s.Time, Source: api.TimelineSample, Kind: "memory-jump", Text: text})
			}
		}
		before = s
		return nil
	})
	l.unknown("its samples", err)
	if before == nil {
		return
	}
	for i := range signs {
		l.end(&signs[i], &watches[i], before.Time)
	}
}

func (l *line) step(g *sign, w *spell, s *api.Sample) {
	value, known := g.of(s)
	if !known {
		return
	}
	switch {
	case value >= g.bound && !w.on:
		*w = spell{on: true, most: value, from: s.Time}
		l.add(api.TimelineEntry{Time: s.Time, Source: api.TimelineSample, Kind: g.kind, Text: fmt.Sprintf(g.text, 100*value)})
	case value >= g.bound:
		w.most = max(w.most, value)
	case w.on:
		l.end(g, w, s.Time)
	}
}

// end tells how long a sign was there.
func (l *line) end(g *sign, w *spell, at time.Time) {
	if !w.on {
		return
	}
	w.on = false
	if lasted := at.Sub(w.from); lasted >= time.Second {
		text := fmt.Sprintf("over after %s, at most %.0f%%", lasted.Round(time.Second), 100*w.most)
		l.add(api.TimelineEntry{Time: at, Source: api.TimelineSample, Kind: g.kind, Text: text})
	}
}
