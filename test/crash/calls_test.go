package crash

import (
	"maps"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/crash/calls"
)

// watch sees the calls by which the daemon and its shims change files below the data root, and has a strike happen at one. A
// point is a call and what it is done to, as "state.db fdatasync".
type watch struct {
	mu     sync.Mutex
	counts map[string]int
	at     *strike // nil: calls are only counted
	killed int     // the process; 0: none yet
	over   bool
}

func (w *watch) prepare(cmd *exec.Cmd) (after func() error, err error) {
	return (&calls.Watch{Decide: w.decide}).Prepare(cmd)
}

// random finds what is different in the names of files each time.
var random = regexp.MustCompile(`[0-9a-f]{12,}|[0-9A-Za-z]{20,}|[0-9]+`)

// below are directories with files of users: all in there are one.
var below = []string{"images/layers/overlay/snapshots/*/fs/", "images/layers/trash/*/", "volumes/*/_data/", "volumes/.gone-*/", "trash/*/", "build/tmp/"}

// pointOfCall is the name of the point that a call is at; empty: of none, as it is not below the data root.
func pointOfCall(c calls.Call) string {
	path, ok := strings.CutPrefix(c.Path, daemon.DataRoot()+"/")
	if !ok {
		return ""
	}
	path = random.ReplaceAllString(path, "*")
	for _, dir := range below {
		if strings.HasPrefix(path, dir) {
			path = dir + "**"
		}
	}
	return path + " " + c.Name
}

func (w *watch) decide(c calls.Call) calls.Effect {
	name := pointOfCall(c)
	if name == "" {
		return calls.Effect{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name]++
	hit := w.counts[name]
	if w.at == nil || name != w.at.name || hit < w.at.hit || w.over {
		return calls.Effect{}
	}
	switch w.at.effect {
	case "kill", "torn":
		if hit > w.at.hit {
			return calls.Effect{}
		}
		w.killed = c.PID()
		return calls.Effect{Kill: true, Half: w.at.effect == "torn"}
	case "short": // as on a full disk: what there is room for, then nothing
		return calls.Effect{Half: hit == w.at.hit, Error: unix.ENOSPC}
	case "enospc":
		return calls.Effect{Error: unix.ENOSPC}
	default:
		return calls.Effect{Error: unix.EIO}
	}
}

func (w *watch) hits(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[name]
}

func (w *watch) victim() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.killed
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// needed are calls within libraries that what the clients do has to come to.
var needed = []string{
	"state.db pwrite64", "state.db fdatasync",
	"images/metadata.db pwrite64", "images/metadata.db fdatasync",
	"images/layers/overlay/metadata.db pwrite64", "images/layers/overlay/metadata.db fdatasync",
	"images/content/ingest/* mkdirat", "images/content/ingest/*/data write", "images/content/ingest/*/data fsync", "images/content/ingest/*/ref write",
	"images/content/blobs/sha*/* renameat", "images/content/blobs/sha* fsync", "images/content/blobs/sha*/* unlinkat",
	"images/layers/overlay/snapshots/* renameat", "images/layers/overlay/snapshots/*/fs/** write", "images/layers syncfs",
	"build/metadata.db pwrite64", "build/metadata.db fdatasync", "build/cache.db pwrite64", "build/history.db pwrite64", "build/history.db fdatasync",
	"events/*.journal write", "containers/*/logs/*.log openat", "containers/*/logs/*.log write", "containers/*/logs/*.idx pwrite64",
}

var countedCalls struct {
	list []point
	hits *counts
}

// countCalls has the clients do all there is once.
func countCalls(t *testing.T, seed uint64) ([]point, *counts) {
	t.Helper()
	if countedCalls.hits != nil {
		return countedCalls.list, countedCalls.hits
	}
	w := &watch{counts: map[string]int{}}
	r := newPointRound(t, &strike{watch: w}, 0, new(figures))
	if err := restart(t, r.strike); err != nil {
		t.Fatal(err)
	}
	c := &counts{start: w.all(), end: map[string]int{}}
	r.clients(seed, 0)
	r.await(func() bool { return false })
	c.end = w.all()
	r.look()
	r.clear(base.before)
	if err := restart(t, nil); err != nil {
		t.Fatal(err)
	}
	var list []point
	for name := range c.end {
		list = append(list, point{name: name, fail: true})
	}
	slices.SortFunc(list, func(a, b point) int { return strings.Compare(a.name, b.name) })
	for _, name := range needed {
		if c.end[name] == 0 {
			t.Errorf("what the clients do does not come to %s", name)
		}
	}
	t.Logf("hits of calls: %v", c.end)
	countedCalls.list, countedCalls.hits = list, c
	return list, c
}

func (w *watch) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]int, len(w.counts))
	maps.Copy(all, w.counts)
	return all
}

// TestCalls ends the process that is about to make a system call, or is in the middle of it. TestFailingCalls has it fail.
func TestCalls(t *testing.T) {
	runCalls(t, func(p point, random *rand.Rand) string {
		if writes(p) && random.IntN(2) == 0 {
			return "torn"
		}
		return "kill"
	})
}

func TestFailingCalls(t *testing.T) {
	runCalls(t, func(p point, random *rand.Rand) string {
		if strings.HasPrefix(p.name, "images/content/.fsverity-check-") {
			return "" // nobody misses it, and what stays goes with the next start
		}
		effects := []string{"enospc", "eio"}
		if writes(p) {
			effects = append(effects, "short")
		}
		return effects[random.IntN(len(effects))]
	})
}

// writes tells whether half of a call can be done.
func writes(p point) bool {
	return strings.HasSuffix(p.name, " write") || strings.HasSuffix(p.name, " pwrite64")
}

func runCalls(t *testing.T, effect func(point, *rand.Rand) string) {
	testenv.NeedsRoot(t)
	seed := number(t, "PORTHOLE_TEST_SEED", rand.Uint64())
	prepared(t)
	random := rand.New(rand.NewPCG(seed, 0))
	all, hits := countCalls(t, seed)
	list := chosen(t, slices.DeleteFunc(slices.Clone(all), func(p point) bool { return effect(p, random) == "" }), random)
	sum := new(figures)
	t.Cleanup(func() {
		if len(sum.missed) > 1+len(list)/10 {
			t.Errorf("of %d calls %d were not come to", len(list), len(sum.missed))
		}
		t.Logf("seed %d, %d of %d calls\n%v", seed, len(list), len(all), *sum)
		if err := restart(t, nil); err != nil {
			t.Error(err)
		}
	})
	for i, p := range list {
		s := newStrike(p, effect(p, random), hits, random)
		s.watch = &watch{counts: map[string]int{}, at: s}
		s.strike(t, i+1, seed, sum)
	}
}
