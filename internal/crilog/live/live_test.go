package live

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// rig is a log with a feed.
type rig struct {
	t      *testing.T
	dir    string
	writer *crilog.Writer
	feed   *Feed
	end    func() // ends what feeds it, and waits for that
}

// newRig makes a log whose batches reach the feed where keep says so.
func newRig(t *testing.T, dir string, o crilog.Options, feed *Feed, keep func() bool) *rig {
	t.Helper()
	now := make(chan struct{})
	close(now)
	return newHeldRig(t, dir, o, feed, keep, now)
}

// newHeldRig makes one whose batches are taken from their socket once held is closed.
func newHeldRig(t *testing.T, dir string, o crilog.Options, feed *Feed, keep func() bool, held <-chan struct{}) *rig {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	w, err := crilog.OpenWriter(d, o)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[1], true); err != nil {
		t.Fatal(err)
	}
	pumped := make(chan error, 1)
	pump := feed.Connect(os.NewFile(uintptr(pair[1]), "feed"))
	go func() { <-held; pumped <- pump() }()
	var count uint64
	w.Tap(func(b crilog.Batch) {
		count++
		if !keep() {
			return
		}
		if err := unix.Sendmsg(pair[0], append(b.AppendHeader(nil, count-1), b.Records...), nil, nil, 0); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, dir: dir, writer: w, feed: feed}
	r.end = func() {
		t.Helper()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		unix.Close(pair[0])
		if err := <-pumped; err != nil {
			t.Error(err)
		}
	}
	return r
}

func always() bool { return true }

func (r *rig) write(text string) {
	r.t.Helper()
	if err := r.writer.Write(crilog.Stdout, []byte(text), epoch); err != nil {
		r.t.Fatal(err)
	}
}

// follow reads until ended is closed, after go is.
func follow(t *testing.T, dir string, feed crilog.Live, started chan<- struct{}, goOn, ended <-chan struct{}) (text string, dropped uint64) {
	t.Helper()
	var out bytes.Buffer
	o := crilog.ReadOptions{Stdout: true, Stderr: true, Tail: -1, Follow: true, Live: feed}
	err := crilog.Read(t.Context(), dir, o, ended, func(e crilog.Entry) error {
		if started != nil {
			close(started)
			started = nil
			<-goOn
		}
		dropped += e.Dropped
		if e.Dropped > 0 {
			fmt.Fprintf(&out, "-%d\n", e.Dropped)
		}
		out.Write(e.Line)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return out.String(), dropped
}

func numbers(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		fmt.Fprintf(&b, "%d\n", n)
	}
	return b.String()
}

// Row 18 of what hurts: a reader that sleeps while the whole log comes and goes misses nothing.
func TestSlowReaderMissesNothing(t *testing.T) {
	feed := New()
	r := newRig(t, t.TempDir(), crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}, feed, always)
	started, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	type result struct {
		text    string
		dropped uint64
	}
	got := make(chan result, 1)
	go func() {
		text, dropped := follow(t, r.dir, feed, started, goOn, ended)
		got <- result{text, dropped}
	}()
	r.write("0\n")
	<-started
	r.write(numbers(1, 10000))
	long := strings.Repeat("x", 100<<10)
	r.write(long)
	r.write("\nlast\n")
	r.end()
	close(goOn)
	close(ended)
	res := <-got
	if want := "0\n" + numbers(1, 10000) + long + "\nlast\n"; res.text != want || res.dropped != 0 {
		t.Errorf("%d bytes, %d lines dropped; want %d bytes", len(res.text), res.dropped, len(want))
	}
}

// What the feed misses comes from the files, or is counted.
func TestMissedBatches(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		feed := New()
		keep := func() bool { return rng.IntN(4) > 0 }
		r := newRig(t, t.TempDir(), crilog.Options{MaxSize: 1 << 10, MaxFiles: 1 + rng.IntN(4)}, feed, keep)
		ended := make(chan struct{})
		got := make(chan string, 1)
		go func() {
			text, _ := follow(t, r.dir, feed, nil, nil, ended)
			got <- text
		}()
		const all = 3000
		for n := 1; n <= all; {
			to := min(all, n+rng.IntN(200))
			r.write(numbers(n, to))
			n = to + 1
		}
		r.end()
		close(ended)
		checkComplete(t, seed, <-got, all)
	}
}

// checkComplete checks that the numbers up to last are there in order, or counted where they are missing.
func checkComplete(t *testing.T, seed uint64, text string, last int) {
	t.Helper()
	at := 0
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(line, "%d\n", &n); err != nil {
			t.Fatalf("seed %d: line %q", seed, line)
		}
		if n < 0 {
			at -= n
			continue
		}
		if at++; n != at {
			t.Fatalf("seed %d: line %d where %d is due", seed, n, at)
		}
	}
	if at != last {
		t.Errorf("seed %d: %d lines, want %d", seed, at, last)
	}
}

// A follower goes on over the end of a run, with the feed of the next or without one.
func TestRuns(t *testing.T) {
	dir, feed := t.TempDir(), New()
	ended := make(chan struct{})
	o := crilog.Options{MaxSize: 4 << 10, MaxFiles: 2}
	r := newRig(t, dir, o, feed, always)
	got := make(chan string, 1)
	go func() {
		text, _ := follow(t, dir, feed, nil, nil, ended)
		got <- text
	}()
	r.write(numbers(1, 1000))
	r.end()
	r = newRig(t, dir, o, New(), always) // as after a restart of the daemon: nobody feeds
	r.write(numbers(1001, 1010))
	r.end()
	r = newRig(t, dir, o, feed, always)
	r.write(numbers(1011, 2000))
	r.end()
	close(ended)
	checkComplete(t, 0, <-got, 2000)
}

// lateFeed is a feed that a follower takes for one that nothing comes to when it asks for the first time. The second time
// closes again.
type lateFeed struct {
	*Feed
	asked int
	again chan<- struct{}
}

func (f *lateFeed) State() (on bool, changed <-chan struct{}) {
	f.asked++
	switch f.asked {
	case 1:
		done := make(chan struct{})
		close(done)
		return false, done
	case 2:
		close(f.again)
	}
	return f.Feed.State()
}

// A run may write and rotate its whole log between a follower's question whether batches come and its look at the files.
func TestRunThatBeginsMeanwhile(t *testing.T) {
	dir, feed := t.TempDir(), New()
	o := crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}
	held := make(chan struct{})
	r := newHeldRig(t, dir, o, feed, always, held)
	r.write(numbers(1, 300))
	ended := make(chan struct{})
	got := make(chan string, 1)
	go func() {
		text, _ := follow(t, dir, &lateFeed{Feed: feed, again: held}, nil, nil, ended)
		got <- text
	}()
	<-held
	r.end()
	close(ended)
	if text := <-got; text != numbers(1, 300) {
		t.Errorf("got %q", text)
	}
}

// Whoever follows over the ends of many runs misses nothing of the next ones, however soon they write.
func TestRestarts(t *testing.T) {
	dir, feed := t.TempDir(), New()
	ended := make(chan struct{})
	got := make(chan string, 1)
	o := crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}
	const (
		runs = 100
		each = 500 // all of them are less than a feed keeps
	)
	for n := range runs {
		r := newRig(t, dir, o, feed, always)
		if n == 0 {
			go func() {
				text, _ := follow(t, dir, feed, nil, nil, ended)
				got <- text
			}()
		}
		r.write(numbers(n*each+1, (n+1)*each))
		r.end()
	}
	close(ended)
	text := <-got
	checkComplete(t, 0, text, runs*each)
	before := ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "-") {
			t.Errorf("after %q: %q are missing", before, line)
		}
		before = line
	}
}

// A shim that is stuck with the feed open holds up no end.
func TestFeedThatDoesNotEnd(t *testing.T) {
	feed := New()
	r := newRig(t, t.TempDir(), crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}, feed, always)
	r.write("1\n")
	ended := make(chan struct{})
	close(ended)
	if text, _ := follow(t, r.dir, feed, nil, nil, ended); text != "1\n" {
		t.Errorf("got %q", text)
	}
	r.end()
}

func TestBounds(t *testing.T) {
	feed := New()
	records := bytes.Repeat([]byte{'\n'}, 60<<10)
	for range 200 {
		feed.add(crilog.Batch{Records: records}, false)
	}
	if in := feed.Inspect(); in.Bytes > Most || in.Bytes < Most-len(records) {
		t.Errorf("keeps %d bytes", in.Bytes)
	}
	for range 2 * batchMost {
		feed.add(crilog.Batch{}, false)
	}
	if in := feed.Inspect(); in.Batches != batchMost || in.Bytes != 0 {
		t.Errorf("keeps %+v", in)
	}
	if _, number, ok := feed.Next(0); !ok || number != 200+batchMost+1 {
		t.Errorf("the oldest is %d, %t", number, ok)
	}
}

func TestPumpRefusesNonsense(t *testing.T) {
	for name, message := range map[string]string{
		"short": "PHB1", "other": strings.Repeat("x", 40),
		"offset": string(crilog.Batch{Offset: -1}.AppendHeader(nil, 0)), "torn": string(crilog.Batch{}.AppendHeader(nil, 0)) + "half",
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.SetNonblock(pair[1], true), unix.Sendmsg(pair[0], []byte(message), nil, nil, 0)); err != nil {
			t.Fatal(err)
		}
		if err := New().Connect(os.NewFile(uintptr(pair[1]), "feed"))(); err == nil {
			t.Errorf("%s: taken", name)
		}
		unix.Close(pair[0])
	}
}

func TestWorthwhile(t *testing.T) {
	for _, tt := range []struct {
		o    crilog.Options
		want bool
	}{
		{crilog.Options{}, false},
		{crilog.Options{MaxSize: -1, MaxFiles: 1}, false},
		{crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}, true},
		{crilog.Options{MaxSize: 1 << 20, MaxFiles: 3}, true},
		{crilog.Options{MaxSize: 1 << 10, MaxFiles: 1, Disabled: true}, false},
		{crilog.Options{MaxSize: 1 << 62, MaxFiles: 1 << 30}, false},
	} {
		if got := Worthwhile(tt.o); got != tt.want {
			t.Errorf("%+v: %t", tt.o, got)
		}
	}
}
