package load

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak has four clients do all kinds of work for a while, and looks at the
// daemon the whole time. With PORTHOLE_TEST_REPORT it writes what it saw into that file.
func TestSoak(t *testing.T) {
	begin(t)
	s := &soak{T: t, length: duration(t, "PORTHOLE_TEST_SOAK", 15*time.Second), seed: rand.Uint64()}
	s.until = time.Now().Add(time.Hour) // for the first work of each kind
	s.kinds = s.works()
	s.done = make([]atomic.Int64, len(s.kinds))
	t.Logf("seed %d", s.seed)
	s.context, s.copies = t.TempDir(), t.TempDir()
	dockerfile := "FROM busybox\nARG WHICH\nRUN echo $WHICH >/which && seq 1 200\nCMD [\"cat\", \"/which\"]\n"
	if err := os.WriteFile(filepath.Join(s.context, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	porthole(t, "run", "-d", "--name", "keeper", "busybox", "sh", "-c", "while :; do echo tick; usleep 5000; done")
	for porthole(t, "logs", "--tail", "3", "keeper") != "tick\ntick\ntick" && !t.Failed() {
		porthole(t, "exec", "keeper", "usleep", "10000") // what looks at it wants that many
	}
	// What is made once, by the first work of each kind, is no leak.
	s.client(0, len(s.kinds))
	before := s.emptied(min(ebbing, s.length/20), func(state) bool { return false })
	s.began = time.Now()
	s.until = s.began.Add(s.length)
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { s.client(1+i, math.MaxInt) })
	}
	s.watch()
	clients.Wait()
	after := s.emptied(ebbing, func(now state) bool { return flat(before, now, gain) })
	rm(t, "keeper")
	s.judge(before, after)
	s.report(before, after)
}

// gain is how much heap the daemon may hold more when all is removed: it remembers
// the last thousand deaths.
const gain = 4 << 20

// ebbing is how long things take at most to come to an end: BuildKit keeps a
// build's progress for ten seconds, for those who ask late.
const ebbing = 20 * time.Second

// emptied is what the daemon holds when nothing is left of the works but their
// records: the least of it, of some seconds, in which things come to an end.
func (s *soak) emptied(most time.Duration, enough func(state) bool) state {
	s.prune()
	porthole(s.T, "volume", "prune", "-af")
	least := measure(s.T)
	for end := time.Now().Add(most); !enough(least) && time.Now().Before(end); time.Sleep(time.Second) {
		now := measure(s.T)
		least = state{min(least.heap, now.heap), min(least.rss, now.rss), min(least.fds, now.fds), min(least.goroutines, now.goroutines)}
	}
	return least
}

// prune removes what builds have left: the cache, and their states.
func (s *soak) prune() {
	porthole(s.T, "builder", "prune", "-af")
	porthole(s.T, "image", "prune", "-f")
}

// duration is the one that an environment variable gives, or else normal.
func duration(t *testing.T, name string, normal time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return normal
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// soak is the state of TestSoak.
type soak struct {
	*testing.T
	seed         uint64
	length       time.Duration
	began, until time.Time
	context      string // of the builds
	copies       string // of files
	kinds        []work
	done         []atomic.Int64 // of each kind
	seen         []sample
}

// sample is what the daemon held at a time, after so much work.
type sample struct {
	at   time.Duration
	done int64
	state
}

// work is one of the things that clients do.
type work struct {
	name string
	do   func(ctx context.Context, name string, random *rand.Rand) error
}

// works are the works that clients do. Each leaves nothing, and tells when
// something came out that should not.
func (s *soak) works() []work {
	return []work{
		{"run with a log of some hundred lines and an exit code", s.run},
		{"exec", s.exec},
		{"create, start, pause, unpause, restart, stop, rm", s.life},
		{"network with two containers that find each other", s.network},
		{"volume written by one container and read by another", s.volume},
		{"build of an image, and a run of it", s.build},
		{"logs, events, stats, top, inspect, why", s.look},
		{"commit, cp, diff", s.files},
	}
}

// client works until it is time, or has done as many works.
func (s *soak) client(number, most int) {
	random := rand.New(rand.NewPCG(s.seed, uint64(number)))
	for i := 0; i < most && time.Now().Before(s.until) && !s.Failed(); i++ {
		// Each kind at once in the beginning, so that a short soak has all.
		kind := (number*2 + i) % len(s.kinds)
		if i >= len(s.kinds) {
			kind = random.IntN(len(s.kinds))
		}
		ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
		if err := s.kinds[kind].do(ctx, fmt.Sprintf("soak%d-%d", number, i), random); err != nil {
			s.Errorf("seed %d: %s: %v", s.seed, s.kinds[kind].name, err)
		}
		cancel()
		s.done[kind].Add(1)
	}
}

// watch looks at the daemon sixty times, but not more often than each second. It prunes now and then, beside the builds:
// what one that is not in the cache adds to it is some 30 KiB of BuildKit's records.
func (s *soak) watch() {
	tick := time.NewTicker(max(time.Second, time.Until(s.until)/60))
	defer tick.Stop()
	for time.Now().Before(s.until) && !s.Failed() {
		<-tick.C
		if len(s.seen)%10 == 9 {
			s.prune()
		}
		s.seen = append(s.seen, sample{time.Since(s.began), s.sum(), measure(s.T)})
	}
}

func (s *soak) sum() (n int64) {
	for i := range s.done {
		n += s.done[i].Load()
	}
	return n
}

// judge compares what is left when all is removed with what was left after the
// first work of each kind, and the last third with the first: the middle values of
// both, since what is under way at a sample counts in it, as does the build cache.
func (s *soak) judge(before, after state) {
	figure(s.T, "soak: after one work of each kind, all removed: %v", before)
	figure(s.T, "soak: after %d works, all removed: %v", s.sum(), after)
	wantFlat(s.T, before, after, gain)
	if len(s.seen) < 6 {
		return
	}
	third := len(s.seen) / 3
	early, late := middle(s.seen[:third]), middle(s.seen[len(s.seen)-third:])
	figure(s.T, "soak of %v, %d works: at first %v", time.Since(s.began).Round(time.Second), s.sum(), early)
	figure(s.T, "soak of %v, %d works: in the end %v", time.Since(s.began).Round(time.Second), s.sum(), late)
	// A few things more or less are under way.
	early.fds += 60
	early.goroutines += 120
	wantFlat(s.T, early, late, max(12<<20, early.heap/2))
}

func middle(list []sample) state {
	pick := func(value func(state) int64) int64 {
		var all []int64
		for _, s := range list {
			all = append(all, value(s.state))
		}
		return median(all)
	}
	return state{
		heap: pick(func(s state) int64 { return s.heap }), rss: pick(func(s state) int64 { return s.rss }),
		fds:        int(pick(func(s state) int64 { return int64(s.fds) })),
		goroutines: int(pick(func(s state) int64 { return int64(s.goroutines) })),
	}
}

// report writes a table of the samples, in Markdown.
func (s *soak) report(before, after state) {
	name := os.Getenv("PORTHOLE_TEST_REPORT")
	if name == "" {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| work | times |\n| --- | --- |\n")
	for i, k := range s.kinds {
		fmt.Fprintf(&b, "| %s | %d |\n", k.name, s.done[i].Load())
	}
	fmt.Fprintf(&b, "\n| after | works | heap, MiB | anonymous memory, MiB | descriptors | goroutines |\n| --- | --- | --- | --- | --- | --- |\n")
	row := func(when string, done int64, x state) {
		fmt.Fprintf(&b, "| %s | %d | %.1f | %.1f | %d | %d |\n", when, done,
			float64(x.heap)/(1<<20), float64(x.rss)/(1<<20), x.fds, x.goroutines)
	}
	row("one of each, all removed", int64(len(s.kinds)), before)
	for _, x := range s.seen {
		row(x.at.Round(time.Second).String(), x.done, x.state)
	}
	row("all removed", s.sum(), after)
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		s.Error(err)
	}
}
