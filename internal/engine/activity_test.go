package engine

import (
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/record/activity"
)

// What a container's own processes do is written down until its run has ended; what
// comes later opens nothing again.
func TestActivityEndsWithTheRun(t *testing.T) {
	e := &Engine{deps: Deps{Witness: blind{}}, config: Config{DataRoot: t.TempDir()}, log: slog.New(slog.DiscardHandler), life: t.Context()}
	if err := os.MkdirAll(e.dir("id"), 0o700); err != nil {
		t.Fatal(err)
	}
	e.groups.owners = map[uint64]groupOwner{7: {id: "id", name: "web", app: 8, run: 2}}
	crash := &witness.Deed{Kind: witness.Exit, Time: time.Now(), Group: 7, Part: 8, PIDInside: 5, Comm: "worker", Status: syscall.WaitStatus(syscall.SIGSEGV)}
	e.noteDeed(crash)
	e.noteDeed(&witness.Deed{Kind: witness.Exit, Time: time.Now(), Group: 7, Part: 9, PIDInside: 6, Status: 1 << 8}) // a tool
	got := e.endActivity(&view{Container: &state.Container{ID: "id", Life: state.Life{Run: 2}}})
	if len(got) != 1 || got[0].Kind != activity.Exit || got[0].PID != 5 || got[0].Signal != syscall.SIGSEGV || got[0].Run != 2 {
		t.Errorf("%+v", got)
	}
	e.noteDeed(crash)
	if n := len(e.activity.logs); n != 0 {
		t.Errorf("%d logs are open after the end", n)
	}
	if o, ok := e.groups.owner(7); !ok || o.name != "web" {
		t.Errorf("whose the group was is forgotten: %+v", o)
	}
}
