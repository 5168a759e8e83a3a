package engine

import (
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/testenv"
)

// TestKeptFilesOfOneThatExists: a daemon that ended between noting that files are kept and removing the record of their
// container leaves the files to the container, which is there again.
func TestKeptFilesOfOneThatExists(t *testing.T) {
	w := newWorld(t)
	id := w.create("failed", nil, "false")
	w.start(id)
	w.runtime.task(id).end(Exit{Code: 1, Observed: true})
	w.wait(id, container.WaitConditionNotRunning)
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if !w.remains.roomy() {
		testenv.Skip(t, "the disk is nearly full, so that nothing is kept")
	}
	for range 2 { // a removal that is tried again has still left one
		if !w.remains.keep(c.view()) {
			t.Fatal("nothing is kept")
		}
	}
	if n := len(w.remains.all()); n != 1 {
		t.Errorf("%d are kept of one container", n)
	}
	w.restart()
	if kept := w.remains.find(id); kept != nil {
		t.Errorf("of a container that exists something is kept since %v", kept.Removed)
	}
	if _, err := os.Stat(w.remains.file(id)); !os.IsNotExist(err) {
		t.Errorf("the note is still there: %v", err)
	}
	if _, err := w.pruneRemains(t.Context(), time.Time{}); err != nil {
		t.Error(err)
	}
	if !w.images.root[id] {
		t.Error("the container's files are gone")
	}
}
