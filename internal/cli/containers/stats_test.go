package containers

import (
	"sync"
	"testing"
)

// TestWatchOfOneThatIsCollected: containers come and go while the numbers of others
// arrive. The race detector sees what is wrong with that.
func TestWatchOfOneThatIsCollected(t *testing.T) {
	s := &source{container: "web"}
	w := &watch{sources: []*source{s}}
	var collecting, first sync.WaitGroup
	collecting.Go(func() { s.set(statsEntry{Pids: 7}) })
	w.add(t.Context(), "web", &first)
	w.remove("other")
	collecting.Wait()
	if list := w.snapshot(); len(list) != 1 || list[0].Container != "web" || list[0].Pids != 7 {
		t.Errorf("got %+v", list)
	}
}
