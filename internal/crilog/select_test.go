package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// line is a whole line as it was read.
type line struct {
	Number uint64
	Run    int
	Stream Stream
	Text   string
}

// readLines reads and puts pieces of long lines together.
func readLines(t testing.TB, dir string, o ReadOptions) (lines []line, dropped uint64) {
	t.Helper()
	o.Unpack = unpack
	open := map[Stream]string{}
	err := Read(t.Context(), dir, o, nil, func(e Entry) error {
		dropped += e.Dropped
		if e.Line == nil {
			return nil
		}
		if open[e.Stream] += string(e.Line); !strings.HasSuffix(open[e.Stream], "\n") {
			return nil
		}
		lines = append(lines, line{e.Number, e.Run, e.Stream, open[e.Stream]})
		delete(open, e.Stream)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, dropped
}

// randomLog writes a log of three runs that has everything in it, all lines
// complete.
func randomLog(t *testing.T, rng *rand.Rand, dir string, o Options) {
	t.Helper()
	for run := range 3 {
		o.Run = 5 + run
		w := openWriter(t, dir, o)
		for range 300 {
			s := Stream(1 + rng.IntN(2))
			text := strings.Repeat("x", rng.IntN(300)) + fmt.Sprintf(" needle%d ", rng.IntN(8))
			if rng.IntN(40) == 0 {
				text += strings.Repeat("long", rng.IntN(30000))
			}
			cut := rng.IntN(len(text))
			write(t, w, s, epoch, text[:cut])
			if rng.IntN(4) == 0 {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			write(t, w, 3-s, epoch, "between\n")
			write(t, w, s, epoch, text[cut:]+"\n")
		}
		closeWriter(t, w)
	}
}

// TestSelectionIsThatOfAllLines compares what is read by seeking with what is
// left of all lines when they are looked at one by one.
func TestSelectionIsThatOfAllLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 6 {
		dir := t.TempDir()
		randomLog(t, rng, dir, Options{MaxSize: []int64{30 << 10, 400 << 10, -1}[round%3], MaxFiles: 1000})
		if round >= 3 {
			compressAll(t, dir)
		}
		everything, dropped := readLines(t, dir, all)
		if len(everything) != 1800 || dropped != 0 {
			t.Fatalf("%d lines, %d dropped", len(everything), dropped)
		}
		for range 30 {
			o := ReadOptions{Stdout: rng.IntN(3) > 0, Tail: -1}
			o.Stderr = !o.Stdout || rng.IntN(2) == 0
			if rng.IntN(2) == 0 {
				o.Tail = rng.IntN(1 << rng.IntN(12))
			}
			if rng.IntN(2) == 0 {
				o.After = rng.Uint64N(1900)
			}
			if rng.IntN(2) == 0 {
				o.Run = 5 + rng.IntN(3)
			}
			needle := fmt.Appendf(nil, "needle%d ", rng.IntN(8))
			if rng.IntN(2) == 0 {
				o.Match = func(line []byte) bool { return bytes.Contains(line, needle) }
			}
			var want []line
			for _, l := range everything {
				if o.wants(l.Stream) && l.Number > o.After && (o.Run == 0 || l.Run == o.Run) && (o.Match == nil || o.Match([]byte(l.Text))) {
					want = append(want, l)
				}
			}
			if o.Tail >= 0 {
				want = want[max(0, len(want)-o.Tail):]
			}
			got, dropped := readLines(t, dir, o)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || dropped != 0 {
				t.Fatalf("round %d, %+v, needle %q: %d dropped, %d lines, want %d: %s", round, o, needle, dropped, len(got), len(want), diff[:min(len(diff), 2000)])
			}
		}
	}
}

func TestDroppedLinesOfOneRun(t *testing.T) {
	dir := t.TempDir()
	for run := 1; run <= 3; run++ {
		w := openWriter(t, dir, Options{MaxSize: 20000, MaxFiles: 3, Run: run})
		numbered(t, w, (run-1)*1000, run*1000)
		closeWriter(t, w)
	}
	for _, tt := range []struct {
		run     int
		o       ReadOptions
		lines   bool
		dropped uint64
	}{
		{run: 1, dropped: 1000},
		{run: 3, lines: true, dropped: 0},
	} {
		o := all
		o.Run = tt.run
		lines, dropped := readLines(t, dir, o)
		if uint64(len(lines))+dropped != 1000 || tt.lines != (len(lines) > 0) {
			t.Errorf("run %d: %d lines and %d dropped", tt.run, len(lines), dropped)
		}
	}
	o := all
	o.Run = 4
	if err := Read(t.Context(), dir, o, nil, func(Entry) error { return nil }); !errors.Is(err, ErrNoRun) {
		t.Errorf("a run that was not: %v", err)
	}
	o = all
	o.After = 1
	if lines, dropped := readLines(t, dir, o); uint64(len(lines))+dropped != 2999 {
		t.Errorf("after line 1: %d lines and %d dropped", len(lines), dropped)
	}
}

func TestRunsFile(t *testing.T) {
	tests := []struct {
		name, file string
		want       []runStart
	}{
		{"empty", "", nil},
		{"two", "1 0 x\n2 17 x\n", []runStart{{1, 0}, {2, 17}}},
		{"torn", "1 0 x\n2 17", []runStart{{1, 0}}},
		{"damaged middle", "1 0 x\n\x00\x00\n3 17 x\n", []runStart{{1, 0}, {3, 17}}},
		{"failed start", "1 0 x\n2 5 x\n2 5 x\n", []runStart{{1, 0}, {2, 5}}},
		{"going back", "1 10 x\n2 5 x\n3 12 x\n", []runStart{{1, 10}, {3, 12}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, parseRuns([]byte(tt.file)), cmp.AllowUnexported(runStart{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	dir := t.TempDir()
	long := strings.Repeat("9 9 2026-11-24T03:00:00.000000000Z\n", runsMost/35+1)
	overwrite(t, dir, runsName, long+"10 10 half")
	w := openWriter(t, dir, Options{Run: 11})
	closeWriter(t, w)
	b, err := os.ReadFile(filepath.Join(dir, runsName))
	if err != nil || len(b) > 40*runsKept || !bytes.HasSuffix(b, []byte("Z\n")) || !bytes.Contains(b, []byte("\n11 0 ")) {
		t.Errorf("the file is %d bytes and ends in %q, %v", len(b), b[max(0, len(b)-80):], err)
	}
}

// TestDamagedMiddle holds that a hole of NULs, as a crash of the machine leaves
// it, is told once and with the right number.
func TestDamagedMiddle(t *testing.T) {
	tests := []struct {
		name     string
		from, to int // of the file; negative: from its end
		exact    bool
	}{
		{"inside an interval", 50000, 54096, true},
		{"one byte", 50000, 50001, true},
		{"over some marks", 100000, 500000, true},
		{"the beginning", 0, 4096, true},
		{"behind the last mark", -4096, -2048, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, Options{MaxSize: -1})
			numbered(t, w, 0, 20000)
			closeWriter(t, w)
			b, err := os.ReadFile(filepath.Join(dir, logName(1)))
			if err != nil {
				t.Fatal(err)
			}
			from, to := tt.from, tt.to
			if from < 0 {
				from, to = from+len(b), to+len(b)
			}
			clear(b[from:to])
			overwrite(t, dir, logName(1), string(b))
			var lines, dropped uint64
			notices := 0
			err = Read(t.Context(), dir, all, nil, func(e Entry) error {
				if e.Dropped > 0 {
					notices++
					dropped += e.Dropped
					if !e.Damaged {
						t.Error("not told as damage")
					}
				}
				if e.Line != nil {
					lines++
					if want := fmt.Sprintf("line %d\n", lines+dropped-1); tt.exact && string(e.Line) != want {
						return fmt.Errorf("got %q, want %q", e.Line, want)
					}
				}
				return nil
			})
			if err != nil || notices != 1 || tt.exact && lines+dropped != 20000 {
				t.Errorf("%d lines, %d notices of %d dropped, %v", lines, notices, dropped, err)
			}
		})
	}
}

// TestCutAtEveryByte opens a log again that was cut anywhere in its last two
// records: all before that is there, and what comes next.
func TestCutAtEveryByte(t *testing.T) {
	build := func(dir string) int {
		w := openWriter(t, dir, Options{MaxSize: 150})
		write(t, w, Stdout, epoch, "one\ntwo\n")
		write(t, w, Stderr, epoch, "three\n")
		write(t, w, Stdout, epoch, "four and no newline")
		closeWriter(t, w)
		st, err := os.Stat(filepath.Join(dir, logName(2)))
		if err != nil {
			t.Fatal(err)
		}
		return int(st.Size())
	}
	size := build(t.TempDir())
	for _, what := range []string{"log", "idx"} {
		for cut := range size + 1 {
			dir := t.TempDir()
			build(dir)
			name := filepath.Join(dir, "00000002."+what)
			if st, err := os.Stat(name); err != nil || int64(cut) > st.Size() {
				continue
			}
			if err := os.Truncate(name, int64(cut)); err != nil {
				t.Fatal(err)
			}
			before := text(read(t, dir, all))
			w := openWriter(t, dir, Options{MaxSize: 150})
			write(t, w, Stdout, epoch, "next\n")
			closeWriter(t, w)
			after := text(read(t, dir, all))
			if !strings.HasPrefix(before, "one\ntwo\n") || after != before+"next\n" {
				t.Errorf("%s cut at %d: %q, then %q", what, cut, before, after)
			}
			if cut == size && before != "one\ntwo\nthree\nfour and no newline" {
				t.Errorf("uncut: %q", before)
			}
		}
	}
}

// A line without an end is not read again at each mark that it passes.
func TestMatchInATailOfAnEndlessLine(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: -1})
	write(t, w, Stdout, epoch, "needle")
	p := strings.Repeat("x", 64<<10)
	for range 8 << 4 { // 8 MiB
		write(t, w, Stdout, epoch, p)
		write(t, w, Stderr, epoch, "short\n")
	}
	closeWriter(t, w)
	o := all
	o.Tail, o.Match = 10, func(b []byte) bool { return bytes.Contains(b, []byte("needle")) }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := text(read(t, dir, o))
	runtime.ReadMemStats(&after)
	if !strings.HasPrefix(got, "needlexxx") || len(got) != len("needle")+8<<20 {
		t.Errorf("%d bytes", len(got))
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 1000 {
		t.Errorf("%d MiB were allocated", used)
	}
}
