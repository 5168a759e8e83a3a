package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog/seekzst"
	"github.com/portholehq/porthole/internal/failpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	epoch = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	all   = ReadOptions{Stdout: true, Stderr: true, Tail: -1, Unpack: unpack}
)

func unpack(f io.ReaderAt, size int64) (Unpacked, error) { return seekzst.Open(f, size) }

// compressAll does what the daemon does with rotated segments.
func compressAll(t testing.TB, dir string) {
	t.Helper()
	if _, err := CompressRotated(t.Context(), dir, 0, seekzst.Pack); err != nil {
		t.Error(err)
	}
}

func openDir(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func openWriter(t testing.TB, dir string, o Options) *Writer {
	t.Helper()
	w, err := OpenWriter(openDir(t, dir), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t testing.TB, w *Writer, s Stream, at time.Time, text string) {
	t.Helper()
	if err := w.Write(s, []byte(text), at); err != nil {
		t.Fatal(err)
	}
}

func closeWriter(t testing.TB, w *Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// got is an Entry that can be kept.
type got struct {
	Stream  Stream
	Line    string
	Time    time.Time
	Cont    bool
	Dropped uint64
}

func read(t testing.TB, dir string, o ReadOptions) []got {
	t.Helper()
	var list []got
	err := Read(t.Context(), dir, o, nil, func(e Entry) error {
		list = append(list, got{e.Stream, string(e.Line), e.Time, e.Continued, e.Dropped})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func text(list []got) string {
	var b strings.Builder
	for _, g := range list {
		b.WriteString(g.Line)
	}
	return b.String()
}

// rawLog is the text of all plain segments.
func rawLog(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(raw)
	}
	return b.String()
}

func TestFormat(t *testing.T) {
	long := strings.Repeat("x", maxPart)
	const stamp = "2026-11-24T03:00:00.000000000Z"
	tests := []struct {
		name   string
		writes []string
		want   []string // without the stamp
	}{
		{"lines", []string{"one\ntwo\n"}, []string{"F one", "F two"}},
		{"empty lines", []string{"\n\n"}, []string{"F ", "F "}},
		{"a line in pieces", []string{"on", "e\n", "t", "wo", "\n"}, []string{"F one", "F two"}},
		{"no newline at the end", []string{"one\ntwo"}, []string{"F one", "F:n two"}},
		{"binary", []string{"\x00\xff\r\n"}, []string{"F \x00\xff\r"}},
		{"longest whole line", []string{long + "\n"}, []string{"F " + long}},
		{"line too long for one", []string{long + "y\n"}, []string{"P " + long, "F y"}},
		{"long line in pieces", []string{long, "y", "z\n"}, []string{"P " + long, "F yz"}},
		{"long line without newline", []string{long + long + "y"}, []string{"P " + long, "P " + long, "F:n y"}},
		{"nothing", []string{""}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, Options{})
			for _, s := range tt.writes {
				write(t, w, Stdout, epoch, s)
			}
			closeWriter(t, w)
			var lines []string
			for line := range strings.Lines(rawLog(t, dir)) {
				rest := line[len(stamp):]
				// What Close ends is stamped with the time of Close.
				if line[:len(stamp)] != stamp && !strings.HasPrefix(rest, " stdout F:n") {
					t.Errorf("stamp %q", line[:len(stamp)])
				}
				lines = append(lines, strings.TrimSuffix(strings.TrimPrefix(rest, " stdout "), "\n"))
			}
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Errorf("records: %s", diff)
			}
			if diff := cmp.Diff(strings.Join(tt.writes, ""), text(read(t, dir, all))); diff != "" {
				t.Errorf("read back: %s", diff)
			}
		})
	}
}

func TestStreamsKeepTheirPartialLines(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{})
	write(t, w, Stdout, epoch, "out-a")
	write(t, w, Stderr, epoch.Add(1), "err-a")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stderr, epoch.Add(2), "err-b\nerr2\n")
	write(t, w, Stdout, epoch.Add(3), "out-b\n")
	closeWriter(t, w)
	want := []got{
		{Stderr, "err-aerr-b\n", epoch.Add(2), false, 0},
		{Stderr, "err2\n", epoch.Add(2), false, 0},
		{Stdout, "out-aout-b\n", epoch.Add(3), false, 0},
	}
	if diff := cmp.Diff(want, read(t, dir, all)); diff != "" {
		t.Error(diff)
	}
}

// numbered writes lines "0".."n-1", a nanosecond apart, in chunks.
func numbered(t testing.TB, w *Writer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		write(t, w, Stdout, epoch.Add(time.Duration(i)), fmt.Sprintf("line %d\n", i))
	}
}

func TestSelect(t *testing.T) {
	tests := []struct {
		name        string
		o           ReadOptions
		first, last int
	}{
		{"all", ReadOptions{Tail: -1}, 0, 19999},
		{"last one", ReadOptions{Tail: 1}, 19999, 19999},
		{"tail over some segments", ReadOptions{Tail: 15000}, 5000, 19999},
		{"exactly all", ReadOptions{Tail: 20000}, 0, 19999},
		{"more than there is", ReadOptions{Tail: 30000}, 0, 19999},
		{"since", ReadOptions{Tail: -1, Since: epoch.Add(12345)}, 12345, 19999},
		{"since the start", ReadOptions{Tail: -1, Since: epoch}, 0, 19999},
		{"until", ReadOptions{Tail: -1, Until: epoch.Add(777)}, 0, 777},
		{"window", ReadOptions{Tail: -1, Since: epoch.Add(100), Until: epoch.Add(16000)}, 100, 16000},
		{"tail before since", ReadOptions{Tail: 5000, Since: epoch.Add(100)}, 15000, 19999},
		{"since before tail", ReadOptions{Tail: 5000, Since: epoch.Add(18000)}, 18000, 19999},
	}
	for _, compressed := range []bool{false, true} {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{MaxSize: 200 << 10, MaxFiles: 50})
		numbered(t, w, 0, 20000)
		closeWriter(t, w)
		if compressed {
			compressAll(t, dir)
			if m, _ := filepath.Glob(filepath.Join(dir, "*.zst")); len(m) < 4 {
				t.Fatalf("only %v were compressed", m)
			}
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/compressed=%v", tt.name, compressed), func(t *testing.T) {
				tt.o.Stdout, tt.o.Unpack = true, unpack
				list := read(t, dir, tt.o)
				if len(list) != tt.last-tt.first+1 {
					t.Fatalf("got %d lines, want %d", len(list), tt.last-tt.first+1)
				}
				for i, g := range list {
					if want := fmt.Sprintf("line %d\n", tt.first+i); g.Line != want || g.Dropped != 0 {
						t.Fatalf("entry %d is %+v, want %q", i, g, want)
					}
				}
			})
		}
	}
}

func TestTailCountsWantedStreamOnly(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 300 << 10, MaxFiles: 10})
	for i := range 3000 {
		if i%500 == 0 {
			write(t, w, Stderr, epoch, fmt.Sprintf("rare %d\n", i))
		}
		write(t, w, Stdout, epoch, strings.Repeat("x", 200)+"\n")
	}
	closeWriter(t, w)
	want := "rare 1000\nrare 1500\nrare 2000\nrare 2500\n"
	if got := text(read(t, dir, ReadOptions{Stderr: true, Tail: 4})); got != want {
		t.Errorf("got %q", got)
	}
}

func TestTailFindsBeginningOfLine(t *testing.T) {
	// A stdout line that is begun before, and ended after, much of stderr.
	dir := t.TempDir()
	w := openWriter(t, dir, Options{})
	write(t, w, Stdout, epoch, "before\n")
	write(t, w, Stdout, epoch, "begin-")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		write(t, w, Stderr, epoch, strings.Repeat("e", 300)+"\n")
	}
	write(t, w, Stdout, epoch, "end\n")
	closeWriter(t, w)
	list := read(t, dir, ReadOptions{Stdout: true, Stderr: true, Tail: 1})
	if got := text(list); got != "begin-end\n" {
		t.Errorf("got %q", got)
	}
	if got := text(read(t, dir, ReadOptions{Stdout: true, Tail: 2})); got != "before\nbegin-end\n" {
		t.Errorf("got %q", got)
	}
}

func TestDroppedLinesAreCounted(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 1000, MaxFiles: 3})
	numbered(t, w, 0, 1000)
	closeWriter(t, w)
	list := read(t, dir, all)
	if len(list) < 20 || len(list) > 100 {
		t.Fatalf("%d lines are left of 3 segments", len(list))
	}
	if got, want := list[0].Dropped, uint64(1000-len(list)); got != want {
		t.Errorf("%d dropped, want %d", got, want)
	}
	o := all
	o.Tail = 500
	if got := read(t, dir, o); got[0].Dropped != list[0].Dropped {
		t.Errorf("tail beyond what is there: %d dropped", got[0].Dropped)
	}
	o.Tail = 5
	if got := read(t, dir, o); got[0].Dropped != 0 {
		t.Errorf("tail within what is there: %d dropped", got[0].Dropped)
	}
	if files, _ := os.ReadDir(dir); len(files) != 6 {
		t.Errorf("files %v", files)
	}
}

func TestNumbersGoOnAfterReopening(t *testing.T) {
	dir := t.TempDir()
	for run := range 4 {
		w := openWriter(t, dir, Options{MaxSize: 100 << 10, MaxFiles: 3})
		numbered(t, w, run*3000, (run+1)*3000)
		closeWriter(t, w)
		list := read(t, dir, all)
		if got := list[0].Dropped + uint64(len(list)); got != uint64(run+1)*3000 {
			t.Errorf("run %d: %d dropped + %d lines = %d", run, list[0].Dropped, len(list), got)
		}
		if want := fmt.Sprintf("line %d\n", (run+1)*3000-1); list[len(list)-1].Line != want {
			t.Errorf("run %d: last %q", run, list[len(list)-1].Line)
		}
	}
}

func TestRepairAfterCrash(t *testing.T) {
	tests := []struct {
		name string
		harm func(t *testing.T, dir string)
		want string
	}{
		{"torn record", func(t *testing.T, dir string) {
			appendFile(t, dir, logName(1), "2026-11-24T03:00:00.000000000Z stdout F half a li")
		}, "one\ntwo\nnext\n"},
		{"torn stamp", func(t *testing.T, dir string) { appendFile(t, dir, logName(1), "2026-11") }, "one\ntwo\nnext\n"},
		{"zeros", func(t *testing.T, dir string) { appendFile(t, dir, logName(1), strings.Repeat("\x00", 5000)) }, "one\ntwo\nnext\n"},
		{"unfinished line", func(t *testing.T, dir string) {
			appendFile(t, dir, logName(1), "2026-11-24T03:00:00.000000000Z stdout P prompt> \n")
		}, "one\ntwo\nprompt> next\n"},
		{"no index", func(t *testing.T, dir string) { remove(t, dir, indexName(1)) }, "one\ntwo\nnext\n"},
		{"torn index", func(t *testing.T, dir string) { appendFile(t, dir, indexName(1), "xyz") }, "one\ntwo\nnext\n"},
		{"garbage index", func(t *testing.T, dir string) { overwrite(t, dir, indexName(1), strings.Repeat("g", 240)) }, "one\ntwo\nnext\n"},
		{"lying index", func(t *testing.T, dir string) {
			appendFile(t, dir, indexName(1), string(mark{offset: 1 << 40, line: 99}.append(nil)))
		}, "one\ntwo\nnext\n"},
		{"log gone", func(t *testing.T, dir string) { remove(t, dir, logName(1)) }, "next\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := openWriter(t, dir, Options{})
			write(t, w, Stdout, epoch, "one\ntwo\n")
			closeWriter(t, w)
			tt.harm(t, dir)
			w = openWriter(t, dir, Options{})
			write(t, w, Stdout, epoch, "next\n")
			closeWriter(t, w)
			list := read(t, dir, all)
			if got := text(list); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(tt.want, "one") && w.Stats().Lines != uint64(len(list)) {
				t.Errorf("numbers are off: %d lines counted, %d read", w.Stats().Lines, len(list))
			}
		})
	}
}

func appendFile(t *testing.T, dir, name, s string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, dir, name, s string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsPassedOver(t *testing.T) {
	build := func(t *testing.T) string {
		dir := t.TempDir()
		w := openWriter(t, dir, Options{MaxSize: 2000, MaxFiles: 50})
		numbered(t, w, 0, 200)
		closeWriter(t, w)
		return dir
	}
	tests := []struct {
		name string
		harm func(t *testing.T, dir string)
	}{
		{"segment gone", func(t *testing.T, dir string) { remove(t, dir, logName(2)); remove(t, dir, indexName(2)) }},
		{"bad record", func(t *testing.T, dir string) { flip(t, dir, logName(2), 0) }},
		{"two records melted", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, logName(2)))
			if err != nil {
				t.Fatal(err)
			}
			i := bytes.IndexByte(b, '\n')
			b[i] = ' '
			overwrite(t, dir, logName(2), string(b))
		}},
		{"damaged compressed segment", func(t *testing.T, dir string) {
			compressAll(t, dir)
			flip(t, dir, compressedName(2), 20)
		}},
		{"truncated compressed segment", func(t *testing.T, dir string) {
			compressAll(t, dir)
			if err := os.Truncate(filepath.Join(dir, compressedName(2)), 50); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := build(t)
			tt.harm(t, dir)
			list := read(t, dir, all)
			var dropped uint64
			for _, g := range list {
				dropped += g.Dropped
			}
			if dropped == 0 || dropped+uint64(len(list)) != 200 {
				t.Errorf("%d lines and %d dropped do not add up to 200", len(list), dropped)
			}
			if list[len(list)-1].Line != "line 199\n" {
				t.Errorf("last line %q", list[len(list)-1].Line)
			}
		})
	}
}

func flip(t *testing.T, dir, name string, at int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0xff
	overwrite(t, dir, name, string(b))
}

func TestHostileFilesAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("2026-11-24T03:00:00.000000000Z stdout F secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(dir, logName(1))); err != nil {
		t.Fatal(err)
	}
	err := Read(t.Context(), dir, all, nil, func(e Entry) error {
		t.Errorf("read through a link: %q", e.Line)
		return nil
	})
	if err == nil {
		t.Error("no error for a link")
	}
}

func TestLongLineIsHandedOutInPieces(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{})
	line := strings.Repeat("0123456789abcdef", 5<<20/2/16) + "\n"
	write(t, w, Stdout, epoch, line)
	write(t, w, Stdout, epoch, "short\n")
	closeWriter(t, w)
	list := read(t, dir, all)
	if got := text(list); got != line+"short\n" {
		t.Errorf("%d bytes came back of %d", len(got), len(line)+6)
	}
	for i, g := range list {
		if want := i > 0 && i < len(list)-1; g.Cont != want {
			t.Errorf("entry %d of %d: continued is %v", i, len(list), g.Cont)
		}
	}
}

func TestFollow(t *testing.T) {
	tests := []struct {
		name     string
		o        Options
		compress bool
	}{
		{"one segment", Options{}, false},
		{"rotation", Options{MaxSize: 5000, MaxFiles: 100}, false},
		{"rotation with compression", Options{MaxSize: 5000, MaxFiles: 100}, true},
		{"fast rotation away", Options{MaxSize: 1000, MaxFiles: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const lines = 10000
			dir := t.TempDir()
			w := openWriter(t, dir, tt.o)
			numbered(t, w, 0, 10)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for i := 10; i < lines; i++ {
					if err := w.Write(Stdout, fmt.Appendf(nil, "line %d\n", i), epoch.Add(time.Duration(i))); err != nil {
						t.Error(err)
						return
					}
					if tt.compress && i%1000 == 0 {
						compressAll(t, dir)
					}
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}()
			next, dropped := 0, 0
			o := all
			o.Follow = true
			err := Read(t.Context(), dir, o, ended, func(e Entry) error {
				next += int(e.Dropped)
				dropped += int(e.Dropped)
				if e.Line == nil {
					return nil
				}
				if want := fmt.Sprintf("line %d\n", next); string(e.Line) != want {
					return fmt.Errorf("got %q, want %q", e.Line, want)
				}
				next++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if next != lines {
				t.Errorf("read up to %d, want %d", next, lines)
			}
			if tt.o.MaxFiles != 1 && dropped > 0 {
				t.Errorf("%d dropped", dropped)
			}
		})
	}
}

func TestFollowFromAnEmptyLog(t *testing.T) {
	dir := t.TempDir()
	lines := make(chan string)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	stop := errors.New("enough")
	go func() {
		o := all
		o.Follow = true
		done <- Read(ctx, dir, o, nil, func(e Entry) error {
			lines <- fmt.Sprintf("%q %v", e.Line, e.Continued)
			return nil
		})
	}()
	w := openWriter(t, dir, Options{})
	write(t, w, Stdout, epoch, "first\n")
	if got := <-lines; got != `"first\n" false` {
		t.Errorf("got %s", got)
	}
	write(t, w, Stdout, epoch, "prompt> ")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := <-lines; got != `"prompt> " false` {
		t.Errorf("got %s", got)
	}
	write(t, w, Stdout, epoch, "answer\n")
	if got := <-lines; got != `"answer\n" true` {
		t.Errorf("got %s", got)
	}
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("ended with %v", err)
	}
}

func TestCallbackErrorEndsRead(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{})
	numbered(t, w, 0, 10)
	want := errors.New("broken pipe")
	if err := Read(t.Context(), dir, all, nil, func(Entry) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestFullDiskIsCountedAsGap(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{})
	numbered(t, w, 0, 10)
	good := w.log
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w.log = full
	for i := 10; i < 15; i++ {
		if err := w.Write(Stdout, fmt.Appendf(nil, "line %d\n", i), epoch); err == nil {
			t.Error("no error from a full disk")
		}
	}
	w.log = good
	numbered(t, w, 15, 20)
	closeWriter(t, w)
	list := read(t, dir, all)
	if len(list) != 15 || list[10].Dropped != 5 || list[10].Line != "line 15\n" {
		t.Errorf("got %+v", list)
	}
	if st := w.Stats(); st.Lost != 5 || st.Err == nil {
		t.Errorf("stats %+v", st)
	}
}

// TestLineLostInParts: a line that comes in parts is one line of what is lost, however many of them are, also where it
// is the first of the log.
func TestLineLostInParts(t *testing.T) {
	parts := []string{"a", "b", "c", "d\nwhole\n", "e"}
	for name, c := range map[string]struct {
		losing int // so many parts come while the disk is full
		want   []got
	}{
		"its beginning":         {1, []got{{Line: "bcd\n", Dropped: 1}, {Line: "whole\n"}, {Line: "e\n"}, {Line: "next\n"}}},
		"all but its end":       {3, []got{{Line: "d\n", Dropped: 1}, {Line: "whole\n"}, {Line: "e\n"}, {Line: "next\n"}}},
		"all of it":             {4, []got{{Line: "e\n", Dropped: 2}, {Line: "next\n"}}},
		"and all but a newline": {5, []got{{Line: "next\n", Dropped: 3}}},
	} {
		for _, before := range [][]got{nil, {{Line: "first\n"}}} {
			t.Run(fmt.Sprintf("%s, after %d", name, len(before)), func(t *testing.T) {
				dir := t.TempDir()
				w := openWriter(t, dir, Options{})
				for _, g := range before {
					write(t, w, Stdout, epoch, g.Line)
				}
				goOn := failpoint.Fail("crilog.write", unix.ENOSPC)
				defer goOn()
				for i, p := range parts {
					if i == c.losing {
						goOn()
					}
					err := errors.Join(w.Write(Stdout, []byte(p), epoch), w.Flush())
					if (err != nil) != (i < c.losing) {
						t.Fatalf("part %d: %v", i, err)
					}
				}
				goOn()
				write(t, w, Stdout, epoch, "\nnext\n")
				closeWriter(t, w)
				var have []got
				for _, g := range read(t, dir, all) {
					have = append(have, got{Line: g.Line, Dropped: g.Dropped})
				}
				if diff := cmp.Diff(slices.Concat(before, c.want), have); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

func TestDisabled(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir, Options{Disabled: true})
	write(t, w, Stdout, epoch, "x\n")
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	closeWriter(t, w)
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("files %v", files)
	}
}

// TestRandomChunks compares what comes back with what went in, for outputs cut
// at random places.
func TestRandomChunks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		dir := t.TempDir()
		o := Options{MaxSize: int64(1 + rng.IntN(200<<10)), MaxFiles: 100000}
		w := openWriter(t, dir, o)
		var want [3]strings.Builder
		for range 100 {
			chunk := make([]byte, rng.IntN(1<<rng.IntN(17)))
			for i := range chunk {
				if chunk[i] = byte(rng.UintN(256)); rng.IntN(80) == 0 && round%3 > 0 {
					chunk[i] = '\n'
				}
			}
			s := Stream(1 + rng.IntN(2))
			want[s].Write(chunk)
			write(t, w, s, epoch, string(chunk))
			switch rng.IntN(20) {
			case 0:
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
			case 1:
				compressAll(t, dir)
			}
		}
		closeWriter(t, w)
		var have [3]strings.Builder
		for _, g := range read(t, dir, all) {
			have[g.Stream].WriteString(g.Line)
			if g.Dropped > 0 {
				t.Errorf("round %d: %d dropped", round, g.Dropped)
			}
		}
		for s := Stdout; s <= Stderr; s++ {
			if have[s].String() != want[s].String() {
				t.Errorf("round %d: %v differs: %d bytes of %d", round, s, have[s].Len(), want[s].Len())
			}
		}
	}
}

// TestIndexBytes holds the format of the index: a log outlives the version that
// wrote it.
func TestIndexBytes(t *testing.T) {
	b := indexHeader(0x0102, time.Unix(0, 0x0304))
	b = mark{offset: 0x0506, open: openBit(Stdout) | openBit(Stderr), line: 0x0708, time: 0x090a}.append(b)
	want := "PHLOGIX1" + "\x02\x01\x00\x00\x00\x00\x00\x00" + "\x04\x03\x00\x00\x00\x00\x00\x00" +
		"\x06\x05\x00\x00\x00\x00\x00\x06" + "\x08\x07\x00\x00\x00\x00\x00\x00" + "\x0a\x09\x00\x00\x00\x00\x00\x00"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("encoded: %s", diff)
	}
	got := parseIndex(b, 1<<20)
	if len(got.marks) != 2 || !got.known || got.marks[0].line != 0x0102 || got.marks[1].offset != 0x0506 ||
		got.marks[1].open != 6 || got.marks[1].line != 0x0708 || got.marks[1].time != 0x090a {
		t.Errorf("decoded %+v", got)
	}
}

// TestCompressedIsPlainZstd holds that other tools read what we compress.
func TestCompressedIsPlainZstd(t *testing.T) {
	zstdcat, err := exec.LookPath("zstdcat")
	if err != nil {
		zstdcat = "" // the library decodes what the tool would
	}
	dir := t.TempDir()
	w := openWriter(t, dir, Options{MaxSize: 2 << 20, MaxFiles: 10})
	numbered(t, w, 0, 50000)
	closeWriter(t, w)
	want, err := os.ReadFile(filepath.Join(dir, logName(1)))
	if err != nil {
		t.Fatal(err)
	}
	compressAll(t, dir)
	packed := filepath.Join(dir, compressedName(1))
	var got []byte
	if zstdcat != "" {
		got, err = exec.CommandContext(t.Context(), zstdcat, packed).Output()
	} else {
		var dec *zstd.Decoder
		if dec, err = zstd.NewReader(nil); err == nil {
			var b []byte
			if b, err = os.ReadFile(packed); err == nil {
				got, err = dec.DecodeAll(b, nil)
			}
			dec.Close()
		}
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
}
