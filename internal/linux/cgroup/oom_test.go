package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// newWatcher starts a watcher that is closed at the end.
func newWatcher(t *testing.T) *OOMWatcher {
	t.Helper()
	tree, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	w, err := tree.WatchOOM()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func small() *Resources {
	return &Resources{Memory: &specs.LinuxMemory{Limit: new(int64(16 << 20)), Swap: new(int64(16 << 20))}}
}

// glutton takes more memory than there is, and is killed for it.
func glutton(t *testing.T, g *Group) {
	t.Helper()
	if err := spawn(t, g, App, "tail", "/dev/zero").Wait(); err == nil {
		t.Fatal("the glutton was not killed")
	}
}

func expect(t *testing.T, told <-chan uint64, want uint64) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Errorf("told of %d kills, want %d", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("not told of kill %d", want)
	}
}

func TestOOMIsTold(t *testing.T) {
	w := newWatcher(t)
	g := newGroup(t, small())
	quiet := newGroupNamed(t, "quiet", small())
	told := make(chan uint64, 10)
	stop, err := w.Watch(g, func(n uint64) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	stopQuiet, err := w.Watch(quiet, func(n uint64) { t.Errorf("told of %d kills in another group", n) })
	if err != nil {
		t.Fatal(err)
	}
	defer stopQuiet()
	for n := range uint64(3) {
		glutton(t, g)
		expect(t, told, n+1)
	}
	stop()
	stop() // once more is as good
	glutton(t, g)
	if kills, err := g.OOMKills(); err != nil || kills != 4 {
		t.Errorf("OOMKills() = %d, %v", kills, err)
	}
	// Who comes late hears of all at once.
	stop, err = w.Watch(g, func(n uint64) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	expect(t, told, 4)
	if len(told) != 0 {
		t.Errorf("told %d times more", len(told))
	}
}

func TestOOMWatchOfNothing(t *testing.T) {
	w := newWatcher(t)
	stop, err := w.Watch(New(parent(t)+"/missing"), func(uint64) { t.Error("told of a group that does not exist") })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Watch(newGroup(t, nil), func(uint64) {}); err == nil {
		t.Error("a closed watcher takes watches")
	}
}

func TestOOMWatchesLeaveNoDescriptors(t *testing.T) {
	g := newGroup(t, small())
	before := descriptors(t)
	w := newWatcher(t)
	opened := descriptors(t)
	var stops []func()
	for range 3 {
		stop, err := w.Watch(g, func(uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	stops[0]()
	stops[1]()
	stops[2]()
	if n := descriptors(t); n != opened {
		t.Errorf("%d descriptors after the watches have ended, %d before", n, opened)
	}
	if _, err := w.Watch(g, func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors after the watcher has ended, %d before", n, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
