package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/record/blackbox"
	"github.com/portholehq/porthole/internal/record/death"
)

func openDeathLog(t *testing.T) (d *deathLog, dir string) {
	t.Helper()
	dir = t.TempDir()
	store, err := death.Open(dir, death.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newDeathLog(store), dir
}

// runOf is a record of a run, or of an exec in it.
func runOf(container byte, run int, exec string) *death.Record {
	return &death.Record{Container: strings.Repeat(string(container), 64), Run: run, Exec: exec}
}

// TestAfterDeaths: what goes after the records of a container waits for those of all its runs, and for no exec's.
func TestAfterDeaths(t *testing.T) {
	d, _ := openDeathLog(t)
	one, two, exec := d.begin(runOf('a', 1, "")), d.begin(runOf('a', 2, "")), d.begin(runOf('a', 2, "x"))
	onlyExec := d.begin(runOf('b', 1, "y"))
	a, b := one.rec.Container, onlyExec.rec.Container
	var done []string
	for _, c := range []string{a, b} {
		d.after(c, func() { done = append(done, c[:1]) })
	}
	if !d.waiting(a) || d.waiting(b) || !slices.Equal(done, []string{"b"}) {
		t.Fatalf("a waits: %t, b waits: %t, done: %q; want true, false, b", d.waiting(a), d.waiting(b), done)
	}
	write := func(p *pendingDeath) {
		p.complete(nil)
		d.write(func(_ *death.Record, err error) { t.Error(err) })
	}
	write(two)
	if !d.waiting(a) || len(done) != 1 {
		t.Errorf("after one of two records a waits: %t, done: %q", d.waiting(a), done)
	}
	write(one)
	if d.waiting(a) || !slices.Equal(done, []string{"b", "a"}) {
		t.Errorf("after both records a waits: %t, done: %q", d.waiting(a), done)
	}
	write(exec)
	write(onlyExec)
	if len(d.pending) != 0 || len(done) != 2 {
		t.Errorf("%d records are left, done: %q", len(d.pending), done)
	}
}

// TestAfterDeathsOnFullDisk: it comes also after records that are given up.
func TestAfterDeathsOnFullDisk(t *testing.T) {
	d, _ := openDeathLog(t)
	defer failpoint.Fail("atomicfile.write", syscall.ENOSPC)()
	first := d.begin(runOf('a', 1, ""))
	first.complete(nil)
	write := func() { d.write(func(*death.Record, error) {}) }
	write()
	done := 0
	d.after(first.rec.Container, func() { done++ }) // it was tried before that
	for i := range deathsWaiting {
		p := d.begin(runOf('b', i+1, ""))
		p.complete(nil)
		p.failed = true // was tried, too
	}
	d.bound()
	if done != 1 || len(d.pending) != deathsWaiting {
		t.Errorf("done %d times, %d records wait; want 1, %d", done, len(d.pending), deathsWaiting)
	}
}

// TestDeathWithoutRoomForItsBox: the record is written all the same.
func TestDeathWithoutRoomForItsBox(t *testing.T) {
	d, dir := openDeathLog(t)
	writes := 0
	defer failpoint.Set(func(point string) error {
		if point != "atomicfile.write" {
			return nil
		}
		if writes++; writes == 1 {
			return syscall.ENOSPC
		}
		return nil
	})()
	p := d.begin(runOf('a', 1, ""))
	p.box = &blackbox.Kept{Head: blackbox.Head{Version: blackbox.Version}}
	p.complete(nil)
	if d.write(func(*death.Record, error) {}) {
		t.Error("it says that all is written")
	}
	names := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		return fmt.Sprint(len(found), err)
	}
	if got := names("*.json"); got != "1 <nil>" || len(d.pending) != 1 {
		t.Errorf("records: %s, waiting: %d", got, len(d.pending))
	}
	if !d.write(func(_ *death.Record, err error) { t.Error(err) }) || len(d.pending) != 0 {
		t.Errorf("with room again %d records wait", len(d.pending))
	}
	if _, err := d.store.Calls(p.rec); err != nil {
		t.Errorf("its black box: %v", err)
	}
}
