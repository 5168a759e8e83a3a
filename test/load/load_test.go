package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// settling is how long things may take to disappear.
const settling = 60 * time.Second

// slack is how many descriptors and goroutines may come and go by themselves.
const slack = 6

// What serves all tests of this package. Daemon is nil without root.
var (
	daemon *bed.Daemon
	api    *client.Client
)

func TestMain(m *testing.M) {
	bed.Main(m, func() (func(), error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-load-")
		if err != nil {
			return nil, err
		}
		// As users run it: debug mode writes a line for each request.
		d, err := bed.Start(bed.Options{Dir: dir, Quiet: true})
		if err != nil {
			return nil, err
		}
		if _, err := d.Porthole(ctx, "load", "-q", "-i", bed.Archive("busybox")); err != nil {
			return nil, errors.Join(fmt.Errorf("load image (make test-images): %w", err), d.Close())
		}
		// What the daemon makes once, at its first container, is no leftover.
		if _, err := d.Porthole(ctx, "run", "--rm", "busybox", "true"); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		c, err := client.New(client.Options{Host: d.Host()})
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		daemon, api = d, c
		return func() {
			if err := errors.Join(tell(), c.Close(), d.Close()); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}, nil
	})
}

// figures are what was measured.
var figures struct {
	mu    sync.Mutex
	lines []string
}

// figure keeps a line to be printed in the end.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	figures.mu.Lock()
	defer figures.mu.Unlock()
	figures.lines = append(figures.lines, line)
}

// tell writes the figures to where PORTHOLE_TEST_FIGURES says, if it does.
func tell() error {
	figures.mu.Lock()
	defer figures.mu.Unlock()
	name := os.Getenv("PORTHOLE_TEST_FIGURES")
	if name == "" {
		return nil
	}
	return os.WriteFile(name, []byte(strings.Join(append(figures.lines, ""), "\n")), 0o644)
}

// size is the number that an environment variable gives, or else normal.
func size(t *testing.T, name string, normal int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return normal
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number above 0", name, text)
	}
	return n
}

// begin returns what there is. All there is beyond it in the end fails the test.
func begin(t *testing.T) bed.Snapshot {
	t.Helper()
	testenv.NeedsRoot(t)
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), settling)
		defer cancel()
		left, err := daemon.Settled(ctx, before, slack)
		if err != nil {
			t.Error(err)
		}
		if len(left) > 0 {
			t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
	})
	return before
}

// porthole runs a command that has to succeed, and returns what it printed.
func porthole(t *testing.T, args ...string) string {
	t.Helper()
	out, err := daemon.Porthole(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// quickest is the shortest time of a command out of five.
func quickest(t *testing.T, args ...string) time.Duration {
	t.Helper()
	least := time.Hour
	for range 5 {
		began := time.Now()
		porthole(t, args...)
		least = min(least, time.Since(began))
	}
	return least.Round(100 * time.Microsecond)
}

// state is what the daemon holds.
type state struct {
	heap       int64 // bytes that are in use, after a collection
	rss        int64 // anonymous memory that is resident, bytes
	fds        int
	goroutines int
}

func (s state) String() string {
	return fmt.Sprintf("heap %.1f MiB, anonymous memory %.1f MiB, %d descriptors, %d goroutines",
		float64(s.heap)/(1<<20), float64(s.rss)/(1<<20), s.fds, s.goroutines)
}

// measure has the daemon collect its garbage and tells what is left.
func measure(t *testing.T) state {
	t.Helper()
	var s state
	profile, err := daemon.Get("/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		t.Fatal(err)
	}
	s.heap = field(t, string(profile), "# HeapAlloc = ")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", daemon.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	s.rss = field(t, string(status), "RssAnon:") << 10
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", daemon.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	s.fds = len(fds)
	if s.goroutines, err = daemon.Goroutines(); err != nil {
		t.Fatal(err)
	}
	return s
}

// field is the number behind a name in a text of lines.
func field(t *testing.T, text, name string) int64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %q in\n%.2000s", name, text)
	return 0
}

// flat is whether wantFlat would not fail.
func flat(before, after state, mere int64) bool {
	return after.heap <= before.heap+mere && after.fds <= before.fds+slack && after.goroutines <= before.goroutines+slack
}

// wantFlat fails when the daemon holds more after some work than before the
// last part of it. Mere is how much heap it may gain by itself.
func wantFlat(t *testing.T, before, after state, mere int64) {
	t.Helper()
	if after.heap > before.heap+mere {
		t.Errorf("the heap grew from %d to %d bytes", before.heap, after.heap)
	}
	if after.fds > before.fds+slack {
		t.Errorf("the daemon holds %d descriptors, before it were %d", after.fds, before.fds)
	}
	if after.goroutines > before.goroutines+slack {
		t.Errorf("the daemon has %d goroutines, before it were %d", after.goroutines, before.goroutines)
	}
}
