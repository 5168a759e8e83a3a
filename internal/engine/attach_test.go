package engine

import (
	"os"
	"testing"
)

// TestAttachToALifeThatIsOver: a container may have ended and been removed before the goroutine that passes on its output
// has come to run. The output is there all the same.
func TestAttachToALifeThatIsOver(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	<-c.gone
	_, server := pipe(t)
	a := &attachment{e: w.Engine, c: c}
	for range 50 {
		p := &pendingAttach{ready: make(chan *os.File, 1)}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if !p.deliver(null) {
			t.Fatal("not delivered")
		}
		f := a.awaitStart(t.Context(), server, p)
		if f == nil {
			t.Fatal("the streams were thrown away")
		}
		f.Close()
	}
}
