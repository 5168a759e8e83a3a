package crilog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/crilog/live"
	"github.com/portholehq/porthole/internal/crilog/seekzst"
)

var begin = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func unpack(f io.ReaderAt, size int64) (crilog.Unpacked, error) { return seekzst.Open(f, size) }

// unlimited is how many files a log has that keeps all.
const unlimited = 1 << 20

// scribe writes random output into a log, over runs and with a clock of its own, and remembers the lines.
type scribe struct {
	t    *testing.T
	rng  *rand.Rand
	dir  string
	d    *os.File
	o    crilog.Options
	w    *crilog.Writer
	now  time.Time
	next int                       // makes lines differ
	open [crilog.Stderr + 1]string // what there is of unfinished lines

	feed   *live.Feed      // nil: nobody is fed
	held   <-chan struct{} // nil, or closed when what it is fed with is to be read
	pumped chan error
	socket int

	mu    sync.Mutex
	lines []written // by number
	done  int       // so many of them are in the log
}

// written is one line as it was written.
type written struct {
	stream crilog.Stream
	text   string
	time   time.Time
	run    int
}

func newScribe(t *testing.T, rng *rand.Rand, feed *live.Feed) *scribe {
	t.Helper()
	o := crilog.Options{MaxSize: int64(500 + rng.IntN(1<<(9+rng.IntN(9)))), MaxFiles: 1 + rng.IntN(1+rng.IntN(8)), Compress: true}
	if rng.IntN(3) == 0 {
		o.MaxFiles, o.MaxSize = unlimited, max(o.MaxSize, 3000)
	}
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	s := &scribe{t: t, rng: rng, dir: dir, d: d, o: o, now: begin, feed: feed}
	s.begin()
	return s
}

// begin begins a run.
func (s *scribe) begin() {
	s.t.Helper()
	s.o.Run++
	var err error
	if s.w, err = crilog.OpenWriter(s.d, s.o); err != nil {
		s.t.Fatal(err)
	}
	if s.feed == nil {
		return
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(pair[1], true)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.socket, s.pumped = pair[0], make(chan error, 1)
	pump := s.feed.Connect(os.NewFile(uintptr(pair[1]), "feed"))
	go func() {
		if s.held != nil {
			<-s.held
		}
		s.pumped <- pump()
	}()
	var count uint64
	s.w.Tap(func(b crilog.Batch) {
		count++
		if err := unix.Sendmsg(s.socket, append(b.AppendHeader(nil, count-1), b.Records...), nil, nil, 0); err != nil {
			s.t.Error(err)
		}
	})
}

// end ends a run, or has the writer die.
func (s *scribe) end(dies bool) {
	s.t.Helper()
	if dies {
		if err := s.w.Flush(); err != nil {
			s.t.Error(err)
		}
		s.w.Kill()
	} else if err := s.w.Close(); err != nil {
		s.t.Error(err)
	}
	if s.feed != nil {
		unix.Close(s.socket)
		if err := <-s.pumped; err != nil {
			s.t.Error(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream, text := range s.open {
		if text != "" {
			s.lines = append(s.lines, written{crilog.Stream(stream), text, s.now, s.o.Run})
			s.open[stream] = ""
		}
	}
}

// count is how many lines are in the log at least.
func (s *scribe) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *scribe) all() []written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// step writes some lines, the last of which may not be complete.
func (s *scribe) step() {
	s.t.Helper()
	rng := s.rng
	s.now = s.now.Add(time.Duration(rng.IntN(1000)))
	stream := crilog.Stream(1 + rng.IntN(2))
	chunk := s.chunk()
	s.mu.Lock()
	text := s.open[stream] + chunk
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			break
		}
		s.lines = append(s.lines, written{stream, line + "\n", s.now, s.o.Run})
		text = rest
	}
	s.open[stream] = text
	s.mu.Unlock()
	if err := s.w.Write(stream, []byte(chunk), s.now); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	s.done = len(s.lines)
	s.mu.Unlock()
	if rng.IntN(10) == 0 {
		if err := s.w.Flush(); err != nil {
			s.t.Error(err)
		}
	}
	if rng.IntN(150) == 0 {
		if _, err := crilog.CompressRotated(s.t.Context(), s.dir, 0, seekzst.Pack); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *scribe) chunk() string {
	rng := s.rng
	var b strings.Builder
	for range 1 + rng.IntN(1+rng.IntN(30)) {
		switch rng.IntN(12) {
		case 0:
		case 1:
			b.WriteString("\x00\r\xff\x00")
		case 2:
			if rng.IntN(20) == 0 {
				b.WriteString(strings.Repeat("long", rng.IntN(20000)))
			}
		default:
			s.next++
			fmt.Fprintf(&b, "%d.%s", s.next, strings.Repeat("x", rng.IntN(60)))
		}
		b.WriteByte('\n')
	}
	if rng.IntN(5) == 0 {
		return b.String()[:rng.IntN(b.Len())]
	}
	return b.String()
}

// options are random ones to read with, when there are so many lines.
func (s *scribe) options(rng *rand.Rand, count int) crilog.ReadOptions {
	o := crilog.ReadOptions{Stdout: rng.IntN(4) > 0, Tail: -1, Whole: rng.IntN(3) == 0, Unpack: unpack}
	o.Stderr = !o.Stdout || rng.IntN(3) > 0
	if rng.IntN(2) == 0 {
		o.Tail = rng.IntN(1 + rng.IntN(1<<rng.IntN(12)))
	}
	if rng.IntN(3) == 0 {
		o.After = rng.Uint64N(uint64(count + 1))
	}
	if rng.IntN(4) == 0 && s.o.MaxFiles == unlimited { // else what matches may be gone, and the end of the line be there
		b := fmt.Appendf(nil, "%d.", rng.IntN(10))
		o.Match = func(line []byte) bool { return bytes.Contains(line, b) }
	}
	return o
}

// reading is what a read has handed out.
type reading struct {
	o       crilog.ReadOptions
	entries []crilog.Entry
	texts   []string

	lines   []int  // by number
	open    int    // incomplete ones in the end
	missing []int  // after the first one, if the read began amidst the log
	dropped uint64 // told
}

func (r *reading) take(e crilog.Entry) error {
	r.entries, r.texts = append(r.entries, e), append(r.texts, string(e.Line))
	return nil
}

func (r *reading) wants(n int, l written) bool {
	return (l.stream == crilog.Stdout && r.o.Stdout || l.stream == crilog.Stderr && r.o.Stderr) && uint64(n) > r.o.After &&
		(r.o.Run == 0 || l.run == r.o.Run) && (r.o.Match == nil || r.o.Match([]byte(strings.TrimSuffix(l.text, "\n"))))
}

// check compares what was read with what was written up to a number at least: each line that is wanted has to be there
// once and in order, or told as dropped. Where a line's beginning may be gone, its end will do.
func (r *reading) check(lines []written, atLeast int, mayBeCut bool) error {
	var open [crilog.Stderr + 1]string
	last := -1 // not known where it began
	if r.o.Tail < 0 {
		last = 0
	}
	var told uint64 // and not yet found to be missing
	cut := 0        // lines that may be told since parts of them are missing
	if mayBeCut {
		cut = 1
	}
	miss := func(to int) error {
		if last < 0 {
			return nil
		}
		n := 0
		for m := last + 1; m < to; m++ {
			if r.wants(m, lines[m-1]) {
				r.missing = append(r.missing, m)
				n++
			}
		}
		if uint64(n) > told {
			return fmt.Errorf("%d lines are missing between %d and %d, and %d told", n, last, to, told)
		}
		return nil
	}
	for i, e := range r.entries {
		r.dropped += e.Dropped
		told += e.Dropped
		if e.Dropped > 0 || e.Parts {
			open = [crilog.Stderr + 1]string{}
		}
		if e.Line == nil {
			continue
		}
		if !e.Continued && open[e.Stream] != "" {
			return fmt.Errorf("entry %d does not continue %.40q", i, open[e.Stream])
		}
		text, n := open[e.Stream]+r.texts[i], int(e.Number)
		if n <= max(last, 0) || n > len(lines) || lines[n-1].stream != e.Stream ||
			lines[n-1].text != text && !(mayBeCut && strings.HasSuffix(lines[n-1].text, text)) {
			if open[e.Stream] = text; strings.HasSuffix(text, "\n") {
				return fmt.Errorf("entry %d, after line %d of %d: line %d, %v, %.80q", i, last, len(lines), n, e.Stream, text)
			}
			continue
		}
		open[e.Stream] = ""
		if !r.wants(n, lines[n-1]) || e.Run != lines[n-1].run {
			return fmt.Errorf("line %d of run %d is handed out as one of run %d", n, lines[n-1].run, e.Run)
		}
		if err := miss(n); err != nil {
			return err
		}
		if last >= 0 && told > uint64(n-1-last)+uint64(cut) {
			return fmt.Errorf("%d lines are told as missing between %d and %d", told, last, n)
		}
		told, last = 0, n
		r.lines = append(r.lines, n)
	}
	for _, text := range open {
		if text != "" {
			r.open++
		}
	}
	return miss(atLeast + 1)
}

// checkTail checks how many lines were handed out of the last ones.
func (r *reading) checkTail(lines []written, atLeast int) error {
	if r.o.Tail < 0 {
		return nil
	}
	have := len(r.lines) + r.open
	if have > r.o.Tail {
		return fmt.Errorf("the last %d lines are %d", r.o.Tail, have)
	}
	n := 0
	for m := 1; m <= atLeast; m++ {
		if r.wants(m, lines[m-1]) {
			n++
		}
	}
	// Lines that are not complete yet may not be wanted in the end.
	if r.dropped == 0 && have < min(n, r.o.Tail)-2 {
		return fmt.Errorf("the last %d lines of %d are %d", r.o.Tail, n, have)
	}
	return nil
}

// A log that is written, rotated and compressed meanwhile is read as it was at a moment: up to that, nothing is left
// out, and nothing is handed out that is not wanted.
func TestReadWhileWritten(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			s := newScribe(t, rng, nil)
			var readers sync.WaitGroup
			done := make(chan struct{})
			for n := range uint64(2) {
				readers.Go(func() {
					rng := rand.New(rand.NewPCG(seed, n+100))
					for {
						select {
						case <-done:
							return
						default:
						}
						count := s.count()
						r := reading{o: s.options(rng, count)}
						err := crilog.Read(t.Context(), s.dir, r.o, nil, r.take)
						lines := s.all()
						if err == nil {
							err = r.check(lines, count, s.o.MaxFiles != unlimited)
						}
						if err == nil {
							err = r.checkTail(lines, count)
						}
						if err == nil && s.o.MaxFiles == unlimited && r.dropped > 0 {
							err = errors.New("lines are told as dropped that were not")
						}
						if err != nil {
							t.Errorf("%+v, %+v: %v", s.o, r.o, err)
							return
						}
					}
				})
			}
			for range 3 {
				for range 60 {
					s.step()
				}
				s.end(rng.IntN(2) == 0)
				s.begin()
			}
			s.end(false)
			close(done)
			readers.Wait()
		})
	}
}

// Followers that come at any time miss nothing of what is written from then on, over the ends of runs.
func TestFollowWhileWritten(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			var feed *live.Feed
			if seed%4 > 0 {
				feed = live.New()
			}
			s := newScribe(t, rng, feed)
			ended := make(chan struct{})
			var readers sync.WaitGroup
			follow := func() {
				count := s.count()
				r := reading{o: s.options(rng, count)}
				r.o.Follow, r.o.Positions = true, rng.IntN(2) == 0
				if rng.IntN(4) == 0 {
					r.o.Run = s.o.Run
				}
				if feed != nil {
					r.o.Live = feed
				}
				readers.Go(func() {
					err := crilog.Read(t.Context(), s.dir, r.o, ended, r.take)
					lines := s.all()
					if err == nil {
						err = r.check(lines, len(lines), s.o.MaxFiles != unlimited)
					}
					if err == nil && (s.o.MaxFiles == unlimited || feed != nil) {
						for _, m := range r.missing {
							if m > count || s.o.MaxFiles == unlimited {
								err = fmt.Errorf("line %d is missing; %d were written when the reader came", m, count)
							}
						}
					}
					if err != nil {
						t.Errorf("%+v, %+v: %v", s.o, r.o, err)
					}
				})
			}
			for range 6 {
				for range 40 {
					if rng.IntN(60) == 0 {
						follow()
					}
					s.step()
				}
				s.end(rng.IntN(2) == 0)
				if rng.IntN(3) == 0 {
					follow()
				}
				s.begin()
			}
			s.end(false)
			close(ended)
			readers.Wait()
		})
	}
}

// What ends a line that a dead writer has left open comes by the feed of the next run, also where it begins a segment
// and all of that is rotated away before it is read.
func TestLineOfADeadWriter(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := &scribe{t: t, dir: dir, d: d, o: crilog.Options{MaxSize: 100, MaxFiles: 1}, feed: live.New()}
	s.begin()
	ended, torn, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	got := make(chan string, 1)
	go func() {
		var out strings.Builder
		o := crilog.ReadOptions{Stdout: true, Tail: -1, Follow: true, Live: s.feed}
		err := crilog.Read(t.Context(), dir, o, ended, func(e crilog.Entry) error {
			fmt.Fprintf(&out, "%d %q %t, ", e.Dropped, e.Line, e.Continued)
			if string(e.Line) == "torn" {
				close(torn)
				<-goOn
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		got <- out.String()
	}()
	want := ""
	write := func(text string) {
		if err := errors.Join(s.w.Write(crilog.Stdout, []byte(text), begin), s.w.Flush()); err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("0 %q false, ", text)
	}
	for n := range 7 {
		write(fmt.Sprintf("%d\n", n))
	}
	write("torn")
	want += `0 "" true, `
	<-torn
	s.end(true)
	s.held = goOn
	s.begin()
	for n := range 8 {
		write(fmt.Sprintf("next %d\n", n))
	}
	close(goOn)
	s.end(false)
	close(ended)
	if have := <-got; have != want {
		t.Errorf("got %s, want %s", have, want)
	}
}
