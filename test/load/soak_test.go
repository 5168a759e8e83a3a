package load

import (
	"context"
	"fmt"
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
	s := &soak{T: t, until: time.Now().Add(duration(t, "PORTHOLE_TEST_SOAK", 15*time.Second)), seed: rand.Uint64()}
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
	s.began = time.Now()
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { s.client(i) })
	}
	s.watch()
	clients.Wait()
	rm(t, "keeper")
	porthole(t, "builder", "prune", "-af")
	porthole(t, "volume", "prune", "-af")
	s.judge()
	s.report()
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

// client works until it is time.
func (s *soak) client(number int) {
	random := rand.New(rand.NewPCG(s.seed, uint64(number)))
	for i := 0; time.Now().Before(s.until) && !s.Failed(); i++ {
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

// watch looks at the daemon sixty times, but not more often than each second.
func (s *soak) watch() {
	tick := time.NewTicker(max(time.Second, time.Until(s.until)/60))
	defer tick.Stop()
	for time.Now().Before(s.until) && !s.Failed() {
		<-tick.C
		s.seen = append(s.seen, sample{time.Since(s.began), s.sum(), measure(s.T)})
	}
}

func (s *soak) sum() (n int64) {
	for i := range s.done {
		n += s.done[i].Load()
	}
	return n
}

// judge compares the last third with the first: the middle values of both, since
// what is under way at a sample counts in it.
func (s *soak) judge() {
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
func (s *soak) report() {
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
	for _, x := range s.seen {
		fmt.Fprintf(&b, "| %v | %d | %.1f | %.1f | %d | %d |\n", x.at.Round(time.Second), x.done,
			float64(x.heap)/(1<<20), float64(x.rss)/(1<<20), x.fds, x.goroutines)
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		s.Error(err)
	}
}
