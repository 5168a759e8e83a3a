package sample

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Unix(1_764_057_600, 0).UTC()

// numbered makes a sample in which each value is different.
func numbered(n int) Sample {
	s := Sample{Time: epoch.Add(time.Duration(n) * time.Second), Known: KnownCPU | KnownMemory}
	for i, v := range s.values() {
		*v = uint64(n*1000 + i)
	}
	return s
}

func openWriter(t testing.TB, path string, capacity int) *Writer {
	t.Helper()
	w, err := OpenWriter(path, Options{Capacity: capacity})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func appendAll(t testing.TB, w *Writer, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		s := numbered(n)
		if err := w.Append(&s); err != nil {
			t.Fatal(err)
		}
	}
}

// stored returns the numbers of the samples in a file, after comparing them in
// whole.
func stored(t testing.TB, path string) []int {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, err := r.Range(time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, s := range list {
		n := int(s.Time.Sub(epoch) / time.Second)
		if want := numbered(n); s != want {
			t.Errorf("sample %d: %s", n, cmp.Diff(want, s))
		}
		got = append(got, n)
	}
	return got
}

func upTo(from, to int) []int {
	var list []int
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

func TestAllNumbersAreKept(t *testing.T) {
	var s Sample
	numbers := reflect.TypeFor[Sample]().NumField() - 2 // without time and known
	if numbers != valueCount || numbers != len(s.values()) {
		t.Errorf("a sample has %d numbers, of which %d are written", numbers, valueCount)
	}
	seen := map[*uint64]bool{}
	for _, v := range s.values() {
		seen[v] = true
	}
	if len(seen) != numbers {
		t.Errorf("%d numbers of %d are written", len(seen), numbers)
	}
}

func TestRing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		count int
		want  []int
	}{
		{"nothing", 0, nil},
		{"one", 1, upTo(1, 1)},
		{"not full", 9, upTo(1, 9)},
		{"just full", 10, upTo(1, 10)},
		{"over the end", 11, upTo(2, 11)},
		{"several rounds", 57, upTo(48, 57)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "samples")
			appendAll(t, openWriter(t, path, 10), 1, tt.count)
			if diff := cmp.Diff(tt.want, stored(t, path)); diff != "" {
				t.Error(diff)
			}
			if info, err := os.Stat(path); err != nil || info.Size() > 11*recordSize {
				t.Errorf("size %d is above the bound, %v", info.Size(), err)
			}
		})
	}
}

func TestWriterGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	for n := 1; n <= 35; n += 7 {
		w := openWriter(t, path, 10)
		if last, ok := w.Last(); ok != (n > 1) || ok && !last.Time.Equal(numbered(n-1).Time) {
			t.Errorf("last before %d is %v, %v", n, last.Time, ok)
		}
		appendAll(t, w, n, n+6)
		w.Close()
	}
	if diff := cmp.Diff(upTo(26, 35), stored(t, path)); diff != "" {
		t.Error(diff)
	}
	appendAll(t, openWriter(t, path, 99), 36, 36)
	if diff := cmp.Diff(upTo(27, 36), stored(t, path)); diff != "" {
		t.Errorf("another capacity: %s", diff)
	}
}

func TestReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	appendAll(t, openWriter(t, path, 10), 1, 25) // 16 to 25 are left
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	at := func(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Second))) }
	for _, tt := range []struct {
		name     string
		from, to time.Time
		want     []int
	}{
		{"a part", at(18), at(20), upTo(18, 20)},
		{"between", at(18.5), at(20.5), upTo(19, 20)},
		{"from", at(24), time.Time{}, upTo(24, 25)},
		{"to", time.Time{}, at(16), upTo(16, 16)},
		{"too old", at(1), at(15), nil},
		{"turned round", at(20), at(18), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := r.Range(tt.from, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, s := range list {
				got = append(got, int(s.Time.Sub(epoch)/time.Second))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if s, err := r.Latest(); err != nil || !s.Time.Equal(at(25)) {
		t.Errorf("latest: %v, %v", s.Time, err)
	}
	if list, err := r.Last(3); err != nil || len(list) != 3 || !list[0].Time.Equal(at(23)) {
		t.Errorf("last three: %v, %v", list, err)
	}
	if list, err := r.Last(99); err != nil || len(list) != 10 {
		t.Errorf("last 99: %d, %v", len(list), err)
	}
}

// A crash may leave any part of the last record, new bytes before old ones or
// before the end of the file.
func TestCrashAtEveryByteOfTheLastRecord(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before int // samples that are safe
		safe   []int
		after  []int // with one more, written after the crash
	}{
		{"file grows", 5, upTo(1, 5), upTo(1, 6)},
		{"slot is used again", 25, upTo(17, 25), upTo(17, 26)}, // 16 was in that slot
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "samples")
			appendAll(t, openWriter(t, path, 10), 1, tt.before)
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var record [recordSize]byte
			s := numbered(tt.before + 1)
			seq := uint64(tt.before + 1)
			encode(&record, seq, &s)
			at := int(slot(seq, 10))
			for cut := 1; cut < recordSize; cut++ {
				torn := slices.Clone(old)
				if at == len(torn) {
					torn = append(torn, record[:cut]...)
				} else {
					copy(torn[at:], record[:cut])
				}
				if err := os.WriteFile(path, torn, 0o600); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.safe, stored(t, path)); diff != "" {
					t.Fatalf("cut at byte %d: %s", cut, diff)
				}
				w := openWriter(t, path, 10)
				appendAll(t, w, tt.before+1, tt.before+1)
				w.Close()
				if diff := cmp.Diff(tt.after, stored(t, path)); diff != "" {
					t.Fatalf("cut at byte %d, going on: %s", cut, diff)
				}
			}
		})
	}
}

func TestCrashAtEveryByteOfTheHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	var header [recordSize]byte
	encodeHeader(&header, 10)
	for cut := range recordSize {
		if err := os.WriteFile(path, header[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut at byte %d: %v", cut, err)
		}
		w := openWriter(t, path, 10)
		appendAll(t, w, 1, 1)
		w.Close()
		if diff := cmp.Diff([]int{1}, stored(t, path)); diff != "" {
			t.Fatalf("cut at byte %d: %s", cut, diff)
		}
	}
}

// A crash of the machine may lose blocks in the middle, in which records of the
// round before then remain.
func TestLostBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	w := openWriter(t, path, 10)
	appendAll(t, w, 1, 12)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, w, 13, 17)
	w.Close()
	lost, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{14, 15} {
		at := slot(seq, 10)
		copy(lost[at:at+recordSize], old[at:])
	}
	if err := os.WriteFile(path, lost, 0o600); err != nil {
		t.Fatal(err)
	}
	want := []int{8, 9, 10, 11, 12, 13, 16, 17}
	if diff := cmp.Diff(want, stored(t, path)); diff != "" {
		t.Error(diff)
	}
	appendAll(t, openWriter(t, path, 10), 18, 18)
	if diff := cmp.Diff(append(want[1:], 18), stored(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	var header [recordSize]byte
	for name, change := range map[string]func(){
		"version":  func() { header[8]++ },
		"size":     func() { header[10]++ },
		"capacity": func() { header[12], header[13], header[14], header[15] = 255, 255, 255, 255 },
		"none":     func() { header[12], header[13] = 0, 0 },
		"magic":    func() { header[0]++ },
	} {
		path := filepath.Join(dir, name)
		encodeHeader(&header, 10)
		change()
		seal(&header)
		if err := os.WriteFile(path, header[:], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := filepath.Join(dir, "empty")
	openWriter(t, path, 10)
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Latest(); !errors.Is(err, ErrNoSample) {
		t.Error(err)
	}
}

// A reader beside the writer sees whole samples only, in order, and always the
// same number of them once the ring is full.
func TestReadWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	w := openWriter(t, path, 50)
	appendAll(t, w, 1, 50)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 51; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			s := numbered(n)
			if err := w.Append(&s); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 200 {
		got := stored(t, path)
		if !slices.IsSorted(got) || len(got) == 0 {
			t.Errorf("got %v", got)
		}
	}
	close(stop)
	<-done
}

func TestRates(t *testing.T) {
	before := Sample{Time: epoch, CPUUsage: 1e9, CPUPeriods: 10, RxBytes: 500, MemoryUsage: 9}
	after := Sample{
		Time: epoch.Add(2 * time.Second), CPUUsage: 4e9, CPUPeriods: 30, CPUThrottledPeriods: 5, RxBytes: 100, TxBytes: 3000,
		MemoryUsage: 100, MemoryInactiveFile: 30, Pids: 3, MemoryPressureSome: 1e9,
	}
	got, ok := Rates(&before, &after)
	want := Rate{CPU: 1.5, Throttled: 0.25, TxBytes: 1500, Memory: 70, Pids: 3, MemoryPressure: 0.5}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(ok, diff)
	}
	if _, ok := Rates(&after, &before); ok {
		t.Error("time went back and nobody noticed")
	}
	restarted := Sample{Time: after.Time.Add(time.Second), CPUUsage: 5}
	if _, ok := Rates(&after, &restarted); ok {
		t.Error("a restart was taken for work")
	}
}

func TestWorkingSet(t *testing.T) {
	for _, tt := range []struct{ usage, inactive, want uint64 }{{100, 30, 70}, {100, 0, 100}, {100, 100, 100}, {100, 101, 100}} {
		s := Sample{MemoryUsage: tt.usage, MemoryInactiveFile: tt.inactive}
		if got := s.WorkingSet(); got != tt.want {
			t.Errorf("usage %d, inactive %d: %d, want %d", tt.usage, tt.inactive, got, tt.want)
		}
	}
}

func TestDownsample(t *testing.T) {
	var list []Sample
	usage := 0.0
	for n := range 100 { // busy by n per cent in second n; nobody looked from 40 to 59
		usage += float64(n) / 100 * 1e9
		if n < 40 || n >= 60 {
			list = append(list, Sample{Time: epoch.Add(time.Duration(n) * time.Second), CPUUsage: uint64(math.Round(usage))})
		}
	}
	got := Downsample(list, epoch, epoch.Add(100*time.Second), 5, 0)
	type column struct{ Count, MeanPerMille, MaxPercent int }
	var short []column
	for _, c := range got {
		short = append(short, column{c.Count, int(math.Round(c.Mean.CPU * 1000)), int(math.Round(c.Max.CPU * 100))})
	}
	want := []column{{19, 100, 19}, {20, 295, 39}, {0, 0, 0}, {19, 700, 79}, {20, 895, 99}}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Error(diff)
	}
	if !got[3].From.Equal(epoch.Add(60 * time.Second)) {
		t.Errorf("column 3 begins at %v", got[3].From)
	}
	if Downsample(list, epoch, epoch, 5, 0) != nil || Downsample(list, epoch, epoch.Add(1), 0, 0) != nil {
		t.Error("a plot of nothing has columns")
	}
}

func FuzzReader(f *testing.F) {
	var b [recordSize]byte
	encodeHeader(&b, 4)
	file := slices.Clone(b[:])
	for n := 1; n <= 5; n++ {
		s := numbered(n)
		encode(&b, uint64(n), &s)
		file = append(file, b[:]...)
	}
	f.Add(file, uint16(7), byte(1))
	f.Add(file[:recordSize+3], uint16(700), byte(9))
	f.Add([]byte(magic), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, change byte) {
		b = slices.Clone(b) // the fuzzer's own
		if len(b) > 0 {
			b[int(at)%len(b)] ^= change
		}
		path := filepath.Join(t.TempDir(), "samples")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Open(path); err == nil {
			list, err := r.Range(time.Time{}, time.Time{})
			if err != nil || len(list) > r.Capacity() {
				t.Errorf("%d samples of %d: %v", len(list), r.Capacity(), err)
			}
			r.Close()
		} else if !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		w := openWriter(t, path, 4)
		s := numbered(3)
		if err := w.Append(&s); err != nil {
			t.Error(err)
		}
		w.Close()
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := r.Latest(); err != nil || !cmp.Equal(got, s) {
			t.Errorf("the last sample is %v, %v", got, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	w := openWriter(b, filepath.Join(b.TempDir(), "samples"), 0)
	s := numbered(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Append(&s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLatest(b *testing.B) {
	path := filepath.Join(b.TempDir(), "samples")
	appendAll(b, openWriter(b, path, 0), 1, DefaultCapacity)
	r, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for b.Loop() {
		if _, err := r.Latest(); err != nil {
			b.Fatal(err)
		}
	}
}
