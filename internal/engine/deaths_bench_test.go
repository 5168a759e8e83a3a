package engine

import (
	"testing"

	"github.com/portholehq/porthole/internal/crilog"
)

// BenchmarkRemains is what a death record adds to the end of a run, on a container's path to its removal.
func BenchmarkRemains(b *testing.B) {
	w := newWorld(b)
	w.runtime.programs["true"] = func(t *fakeTask) { t.end(Exit{Observed: true}) }
	id := w.create("web", nil, "true")
	w.start(id)
	w.wait(id, "")
	c, err := w.registry.find(id)
	if err != nil {
		b.Fatal(err)
	}
	fillLog(b, w.logDir(id), 0, 200, crilog.Options{})
	v, exit := c.view(), Exit{Observed: true}
	b.ReportAllocs()
	for b.Loop() {
		rec := w.deathOf(v, exit)
		left := w.gatherRemains(v, Exit{}, false)
		if len(left.lines) == 0 || rec.Container != id {
			b.Fatal("nothing remains")
		}
	}
}
