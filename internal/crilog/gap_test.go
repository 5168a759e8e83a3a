package crilog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// limitFiles has no file grow beyond a size until the returned function is called: of a write
// beyond it so much comes through, as on a disk that is full.
func limitFiles(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	set := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: size, Max: old.Max})
	return func() { set(old) }
}

// TestBatchInPart: whole records of a batch that the disk took in part stay, as a follower may have read them, and
// whoever follows the files learns of the others before the next line.
func TestBatchInPart(t *testing.T) {
	const lines = 12
	var batch strings.Builder
	var ends []int // of the records
	for i := range lines {
		fmt.Fprintf(&batch, "line %d of some that come together\n", i)
		ends = append(ends, batch.Len()+(i+1)*prefixSize)
	}
	for size := 0; size < ends[lines-1]; size += 17 {
		whole := 0
		for whole < lines && ends[whole] <= size {
			whole++
		}
		dir := t.TempDir()
		w := openWriter(t, dir, Options{})
		// The file of the index must not be the one that is too large.
		if err := w.markEnd(epoch); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan struct{})
		entries := make(chan got)
		done := make(chan error)
		o := all
		o.Follow = true
		go func() {
			done <- Read(ctx, dir, o, ended, func(e Entry) error {
				select {
				case entries <- got{Line: string(e.Line), Dropped: e.Dropped}:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		}()
		restore := limitFiles(t, uint64(size))
		err := w.Write(Stdout, []byte(batch.String()), epoch)
		restore()
		if !errors.Is(err, unix.EFBIG) {
			t.Fatalf("%d bytes of a batch: error %v", size, err)
		}
		var have, want []got
		take := func() {
			select {
			case e := <-entries:
				have = append(have, e)
			case <-time.After(20 * time.Second):
				cancel(errors.New("nothing came"))
			}
		}
		for i := range whole {
			want = append(want, got{Line: fmt.Sprintf("line %d of some that come together\n", i)})
			take()
		}
		write(t, w, Stdout, epoch, "next\n")
		want = append(want, got{Line: "next\n", Dropped: uint64(lines - whole)})
		take()
		closeWriter(t, w)
		close(ended)
		if err := <-done; err != nil {
			t.Fatalf("%d bytes of a batch: %v", size, err)
		}
		cancel(nil)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("%d bytes of a batch, by a follower (-want +got)\n%s", size, diff)
		}
		have = nil
		for _, g := range read(t, dir, all) {
			have = append(have, got{Line: g.Line, Dropped: g.Dropped})
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("%d bytes of a batch (-want +got)\n%s", size, diff)
		}
		if s := w.Stats(); s.Lines != lines+1 || s.Lost != uint64(lines-whole) {
			t.Fatalf("%d bytes of a batch: figures %+v", size, s)
		}
	}
}

// TestPartsOfALineInPart: the same, for lines that come in parts: what is lost counts as one line.
func TestPartsOfALineInPart(t *testing.T) {
	long := strings.Repeat("x", 2*maxPart)
	part := prefixSize + maxPart + 1
	for _, c := range []struct {
		size int
		want []got
	}{
		{part - 1, []got{{Line: "next\n", Dropped: 2}}},
		{part, []got{{Line: long[:maxPart]}, {Line: "next\n", Dropped: 2}}},
		{2 * part, []got{{Line: long}, {Line: "next\n", Dropped: 2}}},
		{2*part + prefixSize + len("end\n"), []got{{Line: long + "end\n"}, {Line: "next\n", Dropped: 1}}},
	} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{})
		restore := limitFiles(t, uint64(c.size))
		err := w.Write(Stdout, []byte(long+"end\nmore\n"), epoch)
		restore()
		if err == nil {
			t.Fatalf("%d bytes: no error", c.size)
		}
		write(t, w, Stdout, epoch, "next\n")
		closeWriter(t, w)
		var have []got
		for _, g := range read(t, dir, all) {
			have = append(have, got{Line: g.Line, Dropped: g.Dropped})
		}
		if diff := cmp.Diff(c.want, have); diff != "" {
			t.Errorf("%d bytes (-want +got)\n%s", c.size, diff)
		}
	}
}

// TestNULsBeforeAGap: a line with NULs is one that the program wrote, although lines behind it are missing.
func TestNULsBeforeAGap(t *testing.T) {
	for name, o := range map[string]Options{"in a segment": {}, "before the next segment": {MaxSize: 150}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, o)
			write(t, w, Stdout, epoch, "first\nwith \x00\x00 NULs\n")
			goOn := failpoint.Set(func(at string) error {
				if at == "crilog.write" || at == "crilog.begin" {
					return unix.ENOSPC
				}
				return nil
			})
			defer goOn()
			for range 3 {
				_ = w.Write(Stdout, []byte("a line that is lost\n"), epoch)
			}
			if lost := w.Stats().Lost; lost != 3 {
				t.Fatalf("%d lines are lost, want 3", lost)
			}
			goOn()
			write(t, w, Stdout, epoch.Add(2*retryDelay), "next\n")
			closeWriter(t, w)
			var have []got
			for _, g := range read(t, dir, all) {
				have = append(have, got{Line: g.Line, Dropped: g.Dropped})
			}
			want := []got{{Line: "first\n"}, {Line: "with \x00\x00 NULs\n"}, {Line: "next\n", Dropped: 3}}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestNumbersBehindACompressedSegment: lines have numbers that nobody had before, whatever is missing.
func TestNumbersBehindACompressedSegment(t *testing.T) {
	for name, missing := range map[string][]string{
		"the newest index":   {".idx"},
		"the newest segment": {".idx", ".log"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, Options{MaxSize: 1000, MaxFiles: 100})
			const lines = 100
			numbered(t, w, 0, lines)
			closeWriter(t, w)
			compressAll(t, dir)
			newest := strings.TrimSuffix(Current(dir), ".log")
			for _, suffix := range missing {
				if err := os.Remove(newest + suffix); err != nil {
					t.Fatal(err)
				}
			}
			before := len(read(t, dir, all))
			if before == 0 || len(missing) == 1 && before != lines {
				t.Fatalf("%d lines are left", before)
			}
			w = openWriter(t, dir, Options{MaxSize: 1000, MaxFiles: 100})
			write(t, w, Stdout, epoch, "next\n")
			closeWriter(t, w)
			// What a reader counts is right either way, until it goes on by a number.
			if have := w.Stats().Lines; have != uint64(before)+1 {
				t.Errorf("the line after %d has number %d", before, have)
			}
		})
	}
}

// TestSelectByAClockThatWasSetBack: Since begins at the first line that is not before it, and Until leaves out lines
// one by one.
func TestSelectByAClockThatWasSetBack(t *testing.T) {
	type phase struct {
		from time.Duration // of the clock
		step time.Duration
	}
	const lines = 4000 // of each phase, which makes some 340 KB
	pad := strings.Repeat("x", 40)
	for name, o := range map[string]Options{
		"one segment": {MaxSize: 100 << 20}, "many": {MaxSize: 50 << 10, MaxFiles: 1000}, "many compressed": {MaxSize: 50 << 10, MaxFiles: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, o)
			var times []time.Time
			for n, p := range []phase{{time.Hour, time.Second}, {0, time.Second}, {30 * time.Minute, time.Second}, {3 * time.Hour, time.Second}} {
				for i := range lines {
					at := epoch.Add(p.from + time.Duration(i)*p.step)
					times = append(times, at)
					write(t, w, Stdout, at, fmt.Sprintf("%d %d %s\n", n, i, pad))
				}
			}
			closeWriter(t, w)
			if strings.Contains(name, "compressed") {
				compressAll(t, dir)
				if packed, _ := filepath.Glob(filepath.Join(dir, "*.zst")); len(packed) == 0 {
					t.Fatal("nothing is compressed")
				}
			}
			for at := -time.Hour; at < 5*time.Hour; at += 7 * time.Minute {
				limit := epoch.Add(at)
				since, until := -1, 0
				for i, have := range times {
					if since < 0 && !have.Before(limit) {
						since = i
					}
					if !have.After(limit) {
						until++
					}
				}
				wantSince := 0
				if since >= 0 {
					wantSince = len(times) - since
				}
				s, u := all, all
				s.Since, u.Until = limit, limit
				if have := len(read(t, dir, s)); have != wantSince {
					t.Errorf("since %v: %d lines, want %d", at, have, wantSince)
				}
				if have := len(read(t, dir, u)); have != until {
					t.Errorf("until %v: %d lines, want %d", at, have, until)
				}
			}
		})
	}
}

// TestPartsRotatedAway: a long line of which parts were rotated away in two places, before it had an end, is one that is
// missing, and each place is told.
func TestPartsRotatedAway(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 100, MaxFiles: 1})
	came, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	type piece struct {
		text    string
		dropped uint64
		parts   bool
	}
	have := make(chan []piece, 1)
	go func() {
		var list []piece
		o := all
		o.Follow = true
		err := Read(t.Context(), dir, o, ended, func(e Entry) error {
			list = append(list, piece{string(e.Line), e.Dropped, e.Parts})
			if len(e.Line) > 0 {
				came <- struct{}{}
				<-goOn
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		have <- list
	}()
	part := strings.Repeat("x", 60) // of which a segment holds one
	want := []piece{{part, 0, false}, {part, 1, false}, {part, 0, true}}
	for place := range 3 {
		for range 3 {
			write(t, w, Stdout, epoch, part)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if place == 0 { // the reader has it before the next comes
				break
			}
		}
		if place > 0 {
			goOn <- struct{}{}
		}
		<-came
	}
	closeWriter(t, w)
	close(ended)
	goOn <- struct{}{}
	list := slices.DeleteFunc(<-have, func(p piece) bool { return p == piece{} }) // the end of the line, which has no text
	if diff := cmp.Diff(want, list, cmp.AllowUnexported(piece{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
