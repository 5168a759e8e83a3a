package crilog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// A log that grows while it is read ends where it did when the read began.
func TestReadOfAGrowingLogEnds(t *testing.T) {
	for _, tail := range []int{-1, 3, 30} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{MaxSize: 700, MaxFiles: 100})
		numbered(t, w, 0, 20)
		o, n := all, 20
		o.Tail = tail
		var b strings.Builder
		err := Read(t.Context(), dir, o, nil, func(e Entry) error {
			b.Write(e.Line)
			if n++; n > 1000 {
				return fmt.Errorf("no end after %q", e.Line)
			}
			return w.Write(Stdout, fmt.Appendf(nil, "line %d\n", n), epoch)
		})
		lines := strings.Count(b.String(), "\n")
		if err != nil || !strings.HasSuffix(b.String(), "line 19\n") || uint(lines) != min(20, uint(tail)) {
			t.Errorf("tail %d: %q, %v", tail, b.String(), err)
		}
	}
}

// A run that begins while much is being read is known before its first line.
func TestRunThatBeginsWhileReading(t *testing.T) {
	for run, want := range map[int]string{
		0: "1 line 0, 1 line 1, 2 line 2, ",
		1: "1 line 0, 1 line 1, ",
	} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{Run: 1, MaxSize: 60, MaxFiles: 100})
		numbered(t, w, 0, 2)
		o := all
		o.Follow, o.Run = true, run
		ended := make(chan struct{})
		got := ""
		err := Read(t.Context(), dir, o, ended, func(e Entry) error {
			got += fmt.Sprintf("%d %s, ", e.Run, strings.TrimSuffix(string(e.Line), "\n"))
			if string(e.Line) == "line 0\n" {
				closeWriter(t, w)
				next := openWriter(t, dir, Options{Run: 2, MaxSize: 60, MaxFiles: 100})
				numbered(t, next, 2, 3)
				close(ended)
			}
			return nil
		})
		if err != nil || got != want {
			t.Errorf("run %d: %q, %v", run, got, err)
		}
	}
}

// A segment to which nothing is written yet has the beginnings of lines before it.
func TestTailBehindTheBeginningOfALine(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 100, MaxFiles: 100})
	write(t, w, Stdout, epoch, "one\nbegin-")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	o := all
	o.Tail = 1
	var before []string
	restore := failpoint.Set(func(at string) error {
		if at == "crilog.write" {
			before = append(before, text(read(t, dir, o)))
		}
		return nil
	})
	defer restore()
	write(t, w, Stdout, epoch, "end "+strings.Repeat("x", 40)+"\n")
	restore()
	if diff := cmp.Diff([]string{"begin-"}, before); diff != "" {
		t.Error(diff)
	}
}

// Of a line of which only parts are gone, that is told.
func TestLostPartsAreTold(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 200, MaxFiles: 100})
	write(t, w, Stdout, epoch, "one\n")
	for _, part := range []string{"first", "second", "third"} {
		write(t, w, Stdout, epoch, strings.Repeat(part+" ", 20))
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, w, Stdout, epoch, "\nlast\n")
	closeWriter(t, w)
	remove(t, dir, logName(3))
	remove(t, dir, indexName(3))
	want := []got{
		{Stdout, "one\n", epoch, false, 0},
		{Stdout, strings.Repeat("first ", 20), epoch, false, 0},
		{Stdout, strings.Repeat("third ", 20) + "\n", epoch, false, 1},
		{Stdout, "last\n", epoch, false, 0},
	}
	have := read(t, dir, all)
	for i := range have {
		have[i].Time = epoch // also of what Flush has written
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// What there was of a line before a gap is no part of another line, also where nothing before is wanted.
func TestNothingOfALineThatIsNotWanted(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 100, MaxFiles: 100})
	write(t, w, Stderr, epoch, "0\n")
	write(t, w, Stdout, epoch, "torn")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.lose(8) // as a full disk would
	w.unfinished[Stdout] = unfinished{}
	w.mu.Unlock()
	write(t, w, Stdout, epoch, "whole\n")
	closeWriter(t, w)
	o := all
	o.After = 5
	if have := text(read(t, dir, o)); have != "whole\n" {
		t.Errorf("got %q", have)
	}
}

// Lines that are lost at the end of a run are told, and their numbers are not given to lines of the next one.
func TestLossAtTheEndOfARun(t *testing.T) {
	for _, tt := range []struct {
		point   string
		maxSize int64
	}{{"crilog.write", 500}, {"crilog.write", 5000}, {"crilog.begin", 500}} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{MaxSize: tt.maxSize, MaxFiles: 100})
		numbered(t, w, 0, 10)
		goOn := failpoint.Fail(tt.point, unix.ENOSPC)
		defer goOn()
		if err := w.Write(Stdout, []byte("10\n11\n12\n13\n14\n"), epoch); err == nil {
			t.Errorf("%s: lines were written", tt.point)
		}
		goOn()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		var told uint64
		for _, g := range read(t, dir, all) {
			told += g.Dropped
		}
		w = openWriter(t, dir, Options{MaxSize: tt.maxSize, MaxFiles: 100})
		numbered(t, w, 15, 16)
		closeWriter(t, w)
		list := read(t, dir, all)
		if last := list[len(list)-1]; told != 5 || len(list) != 11 || last.Dropped != 5 || last.Line != "line 15\n" {
			t.Errorf("%+v: %d told at first; then %d entries, and %+v", tt, told, len(list), last)
		}
	}
}

// What is damaged in the midst of the last interval costs no more when the log is opened again.
func TestOpeningADamagedLog(t *testing.T) {
	for name, harm := range map[string]string{"hole": "\x00", "large hole": "\x00", "long line": "x"} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{})
		numbered(t, w, 0, 1000)
		closeWriter(t, w)
		b, err := os.ReadFile(filepath.Join(dir, logName(1)))
		if err != nil {
			t.Fatal(err)
		}
		size := 60
		if name != "hole" {
			size = 20000
		}
		copy(b[10000:], strings.Repeat(harm, size))
		overwrite(t, dir, logName(1), string(b))
		before := text(read(t, dir, all))
		w = openWriter(t, dir, Options{})
		write(t, w, Stdout, epoch, "next\n")
		closeWriter(t, w)
		list := read(t, dir, all)
		var told uint64
		for _, g := range list {
			told += g.Dropped
		}
		if have := text(list); have != before+"next\n" || !strings.Contains(have, "line 999\n") || uint64(len(list))+told != w.Stats().Lines {
			t.Errorf("%s: %d entries, %d told, %d lines", name, len(list), told, w.Stats().Lines)
		}
	}
}
