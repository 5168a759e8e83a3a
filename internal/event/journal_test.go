package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/sumline"
	"github.com/portholehq/porthole/internal/testenv"
)

func open(t *testing.T, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func publish(t *testing.T, j *Journal, id string) Record {
	t.Helper()
	rec, err := j.Publish(events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func replay(t *testing.T, j *Journal, o ReadOptions) []string {
	t.Helper()
	o.NoFollow = true
	got := []string{}
	if err := j.Read(t.Context(), o, nil, func(r Record) error { got = append(got, r.Actor.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

var always = time.Unix(1, 0)

func TestReplay(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	publish(t, j, "a")
	b := publish(t, j, "b")
	c := publish(t, j, "c")
	at := func(r Record) time.Time { return time.Unix(0, r.TimeNano) }
	for _, tt := range []struct {
		name string
		o    ReadOptions
		want []string
	}{
		{"all", ReadOptions{Since: always}, []string{"a", "b", "c"}},
		{"since is inclusive", ReadOptions{Since: at(b)}, []string{"b", "c"}},
		{"until is inclusive", ReadOptions{Since: always, Until: at(b)}, []string{"a", "b"}},
		{"after the last", ReadOptions{Since: at(c).Add(1)}, []string{}},
		{"only what comes", ReadOptions{}, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, replay(t, j, tt.o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReopenMendsTornLineAndGoesOnCounting(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	publish(t, j, "a")
	publish(t, j, "b")
	j.Close()
	f, err := os.OpenFile(segmentPath(dir, 1), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`5a0f3c77 {"seq":3,"Type":"conta`)
	f.Close()
	again := open(t, dir, Options{})
	if rec := publish(t, again, "c"); rec.Seq != 3 {
		t.Errorf("sequence goes on with %d, want 3", rec.Seq)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, replay(t, again, ReadOptions{Since: always})); diff != "" {
		t.Error(diff)
	}
}

func TestFollowAcrossSegments(t *testing.T) {
	j := open(t, t.TempDir(), Options{MaxSize: 300, MaxSegments: 1000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	enough := errors.New("enough")
	opened, result := make(chan struct{}), make(chan error, 1)
	next := 0
	go func() {
		result <- j.Read(ctx, ReadOptions{}, func() { close(opened) }, func(r Record) error {
			if want := fmt.Sprint(next); r.Actor.ID != want {
				return fmt.Errorf("got event %s, want %s", r.Actor.ID, want)
			}
			if next++; next == 200 {
				return enough
			}
			return nil
		})
	}()
	<-opened
	for n := range 200 {
		publish(t, j, fmt.Sprint(n))
	}
	if err := <-result; !errors.Is(err, enough) {
		t.Error(err)
	}
	if len(j.segments) < 10 {
		t.Errorf("only %d segments: the test did not test", len(j.segments))
	}
}

func TestOldSegmentsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{MaxSize: 300, MaxSegments: 3})
	for n := range 100 {
		publish(t, j, fmt.Sprint(n))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("%d segments, want 3", len(entries))
	}
	got := replay(t, j, ReadOptions{Since: always})
	if len(got) == 0 || got[len(got)-1] != "99" {
		t.Errorf("last event is missing in %v", got)
	}
}

func TestSeekFindsTheFirstEvent(t *testing.T) {
	j := open(t, t.TempDir(), Options{MaxSize: 1 << 20})
	var recs []Record
	for n := range 12000 { // some 1.6 MB, two segments
		recs = append(recs, publish(t, j, fmt.Sprint(n)))
	}
	for _, n := range []int{0, 1, 77, 5000, 7500, 7600, 7700, 11998, 11999} {
		got := replay(t, j, ReadOptions{Since: time.Unix(0, recs[n].TimeNano)})
		if len(got) != 12000-n || got[0] != fmt.Sprint(n) {
			t.Errorf("since event %d: %d events, first %v", n, len(got), got[:1])
		}
	}
}

func TestReadEnds(t *testing.T) {
	ignore := func(Record) error { return nil }
	t.Run("at until", func(t *testing.T) {
		j := open(t, t.TempDir(), Options{})
		if err := j.Read(t.Context(), ReadOptions{Until: time.Now().Add(20 * time.Millisecond)}, nil, ignore); err != nil {
			t.Error(err)
		}
	})
	t.Run("with its context", func(t *testing.T) {
		j := open(t, t.TempDir(), Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("client is gone")
		if err := j.Read(ctx, ReadOptions{}, func() { cancel(gone) }, ignore); !errors.Is(err, gone) {
			t.Error(err)
		}
	})
	t.Run("when the journal is closed", func(t *testing.T) {
		j := open(t, t.TempDir(), Options{})
		if err := j.Read(t.Context(), ReadOptions{}, func() { j.Close() }, ignore); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.journal", first))
}

// A crash of the machine may leave any part of the last line, and after it whatever was on the disk.
func TestCrashAtEveryByteOfTheLastRecord(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	publish(t, j, "a")
	b := publish(t, j, "b")
	j.Close()
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	length := bytes.IndexByte(whole, '\n') + 1 // both lines have it
	for _, garbage := range []string{"", "\x00\x00\x00", "\n"} {
		for cut := length; cut < len(whole); cut++ {
			torn := append(slices.Clone(whole[:cut]), garbage...)
			if bytes.Equal(torn, whole) {
				continue // this garbage is what was missing
			}
			if err := os.WriteFile(segmentPath(dir, 1), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := Open(dir, Options{})
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if rec := publish(t, j, "c"); rec.Seq != b.Seq {
				t.Fatalf("cut at %d: number %d, want %d", cut, rec.Seq, b.Seq)
			}
			if diff := cmp.Diff([]string{"a", "c"}, replay(t, j, ReadOptions{Since: always})); diff != "" || j.Stats().Damaged > 0 {
				t.Fatalf("cut at %d: %d damaged, %s", cut, j.Stats().Damaged, diff)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Each byte of a line in the middle is damaged in turn: the other events are there, and none is false.
func TestDamageInTheMiddleIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for _, id := range []string{"a", "b", "c"} {
		publish(t, j, id)
	}
	j.Close()
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	length := bytes.IndexByte(whole, '\n') + 1
	for at := length; at < 2*length-1; at++ {
		damaged := slices.Clone(whole)
		damaged[at] ^= 0x20
		if err := os.WriteFile(segmentPath(dir, 1), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a", "c"}, replay(t, j, ReadOptions{Since: always})); diff != "" || j.Stats().Damaged == 0 {
			t.Fatalf("byte %d: %d damaged, %s", at, j.Stats().Damaged, diff)
		}
		if rec := publish(t, j, "d"); rec.Seq != 4 {
			t.Fatalf("byte %d: number %d", at, rec.Seq)
		}
		j.Close()
	}
}

func TestLastSegmentIsLost(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{MaxSize: 1})
	publish(t, j, "a")
	b := publish(t, j, "b")
	j.Close()
	if err := os.WriteFile(segmentPath(dir, 2), []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, Options{MaxSize: 1 << 20})
	if rec := publish(t, again, "c"); rec.Seq != b.Seq {
		t.Errorf("number %d, want %d", rec.Seq, b.Seq)
	}
	if diff := cmp.Diff([]string{"a", "c"}, replay(t, again, ReadOptions{Since: always})); diff != "" {
		t.Error(diff)
	}
}

// Half a line, left by a full disk, must not take the next one with it.
func TestHalfALineStaysAlone(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	publish(t, j, "a")
	n, err := j.active.WriteString(`00000000 {"seq":2,`)
	if err != nil {
		t.Fatal(err)
	}
	j.size, j.torn = j.size+int64(n), true
	publish(t, j, "b")
	if diff := cmp.Diff([]string{"a", "b"}, replay(t, j, ReadOptions{Since: always})); diff != "" {
		t.Error(diff)
	}
}

func TestResumeAfterANumber(t *testing.T) {
	j := open(t, t.TempDir(), Options{MaxSize: 500, MaxSegments: 4})
	for n := 1; n <= 50; n++ {
		publish(t, j, fmt.Sprint(n))
	}
	first := j.Stats().First
	if first < 20 {
		t.Fatalf("the first event is %d: the test does not test", first)
	}
	for after := first - 1; after <= 50; after++ {
		want := []string{}
		for n := after + 1; n <= 50; n++ {
			want = append(want, fmt.Sprint(n))
		}
		if diff := cmp.Diff(want, replay(t, j, ReadOptions{After: after})); diff != "" {
			t.Errorf("after %d: %s", after, diff)
		}
	}
	ignore := func(Record) error { return nil }
	if err := j.Read(t.Context(), ReadOptions{After: first - 2}, nil, ignore); !errors.Is(err, ErrLagged) {
		t.Errorf("after what was removed: %v", err)
	}
	if err := j.Read(t.Context(), ReadOptions{After: 51}, nil, ignore); !errors.Is(err, ErrAhead) {
		t.Errorf("after what never was: %v", err)
	}
}

// A reader that sleeps finds everything as long as the journal keeps it, and is told when it does not.
func TestReaderThatSleeps(t *testing.T) {
	for _, tt := range []struct {
		name     string
		segments int
		want     error
	}{{"long enough kept", 1000, nil}, {"removed meanwhile", 3, ErrLagged}} {
		t.Run(tt.name, func(t *testing.T) {
			j := open(t, t.TempDir(), Options{MaxSize: 500, MaxSegments: tt.segments})
			publish(t, j, "0")
			next := uint64(1)
			err := j.Read(t.Context(), ReadOptions{Since: always, NoFollow: true}, nil, func(r Record) error {
				if r.Seq != next {
					t.Errorf("got number %d, want %d", r.Seq, next)
				}
				if next++; r.Seq == 1 {
					for n := range 200 {
						publish(t, j, fmt.Sprint(n))
					}
				}
				return nil
			})
			if !errors.Is(err, tt.want) || tt.want == nil && next != 202 {
				t.Errorf("ended before number %d: %v", next, err)
			}
		})
	}
}

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j, err := Open(dir, Options{MaxAge: 8 * time.Hour, MaxSegments: 8})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 40 { // one each half an hour
			publish(t, j, fmt.Sprint(n))
			<-time.After(30 * time.Minute)
		}
		got := replay(t, j, ReadOptions{Since: always})
		if len(got) < 16 || len(got) > 19 || got[len(got)-1] != "39" {
			t.Errorf("kept %v", got)
		}
		j.Close()
		<-time.After(24 * time.Hour)
		if j, err = Open(dir, Options{MaxAge: 8 * time.Hour, MaxSegments: 8}); err != nil {
			t.Fatal(err)
		}
		if rec := publish(t, j, "new"); rec.Seq != 41 {
			t.Errorf("number %d, want 41", rec.Seq)
		}
		if n := len(replay(t, j, ReadOptions{Since: always})); n > 3 {
			t.Errorf("%d events are kept after a day", n)
		}
		j.Close()
	})
}

func TestOriginIsKept(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	by := &Origin{UID: new(uint32(1000)), GID: new(uint32(100)), PID: 4242, Command: []string{"docker", "rm", "web\n"}, Request: "r1"}
	ctx := WithOrigin(t.Context(), by)
	if _, err := j.PublishBy(OriginOf(ctx), events.Message{Type: events.ContainerEventType, Action: events.ActionStart}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.PublishBy(OriginOf(t.Context()), events.Message{}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	var got []*Origin
	read := func(r Record) error { got = append(got, r.By); return nil }
	if err := open(t, dir, Options{}).Read(t.Context(), ReadOptions{Since: always, NoFollow: true}, nil, read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*Origin{by, nil}, got); diff != "" {
		t.Error(diff)
	}
}

// Many publish at once while two follow, one of them slowly.
func TestNothingIsLostUnderLoad(t *testing.T) {
	const writers, each = 4, 2500
	j := open(t, t.TempDir(), Options{MaxSize: 256 << 10, MaxSegments: 1000})
	enough := errors.New("enough")
	follow := func(slow bool) <-chan error {
		opened, result := make(chan struct{}), make(chan error, 1)
		next := uint64(1)
		go func() {
			result <- j.Read(t.Context(), ReadOptions{}, func() { close(opened) }, func(r Record) error {
				if r.Seq != next {
					return fmt.Errorf("got number %d, want %d", r.Seq, next)
				}
				if slow && next%1000 == 0 {
					<-time.After(10 * time.Millisecond)
				}
				if next++; next > writers*each {
					return enough
				}
				return nil
			})
		}()
		<-opened
		return result
	}
	fast, slow := follow(false), follow(true)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range each {
				publish(t, j, fmt.Sprint(w))
			}
		})
	}
	all.Wait()
	for name, result := range map[string]<-chan error{"fast": fast, "slow": slow} {
		if err := <-result; !errors.Is(err, enough) {
			t.Errorf("%s reader: %v", name, err)
		}
	}
}

// FuzzDecodeLine looks for lines that are taken for good ones and are none.
func FuzzDecodeLine(f *testing.F) {
	line, err := encodeLine(nil, &Record{Seq: 1, By: &Origin{PID: 1}, Message: benchmarkMessage()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line, uint16(20), byte(1))
	f.Add(line[sumline.Overhead-1:], uint16(0), byte(0))
	f.Add([]byte("00000000 \n"), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, change byte) {
		if b = bytes.Clone(b); len(b) > 0 { // which is the fuzzer's
			b[int(at)%len(b)] ^= change
		}
		r, err := decodeLine(b)
		if err != nil {
			return
		}
		again, err := encodeLine(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeLine(again); err != nil || !cmp.Equal(r, second) {
			t.Errorf("%q became %q: %v", b, again, err)
		}
	})
}

// FuzzOpen holds that a journal whose segment holds anything takes events, and tells them.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	j, err := Open(dir, Options{})
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		if _, err := j.Publish(events.Message{Type: events.ContainerEventType, Action: events.ActionStart}); err != nil {
			f.Fatal(err)
		}
	}
	j.Close()
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint16(200), byte(1))
	f.Add(whole[:len(whole)-1], uint16(0), byte(0))
	f.Add([]byte("\n\n"), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, change byte) {
		if b = bytes.Clone(b); len(b) > 0 { // which is the fuzzer's
			b[int(at)%len(b)] ^= change
		}
		dir := t.TempDir()
		if err := os.WriteFile(segmentPath(dir, 1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir, Options{})
		rec := publish(t, j, "last")
		var last Record
		if err := j.Read(t.Context(), ReadOptions{Since: time.Unix(0, rec.TimeNano), NoFollow: true}, nil, func(r Record) error { last = r; return nil }); err != nil {
			t.Fatal(err)
		}
		if last.Seq != rec.Seq {
			t.Errorf("the last event is %d, want %d", last.Seq, rec.Seq)
		}
	})
}

// TestManyEvents: of 50,000 events none is missing to who follows them. That they take no more than a second of a processor is
// for BenchmarkPublish and BenchmarkRead to show; what is held to here is what they leave for the garbage collector.
func TestManyEvents(t *testing.T) {
	const (
		count = 50_000
		most  = 60 // allocations for each, of both sides
	)
	allocations := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.Mallocs
	}
	j := open(t, t.TempDir(), Options{})
	reading := make(chan struct{})
	done := make(chan error, 1)
	enough := errors.New("enough")
	var last uint64
	go func() {
		done <- j.Read(t.Context(), ReadOptions{}, func() { close(reading) }, func(r Record) error {
			if r.Seq != last+1 {
				return fmt.Errorf("event %d comes after %d", r.Seq, last)
			}
			if last = r.Seq; last == count {
				return enough
			}
			return nil
		})
	}()
	<-reading
	before := allocations()
	m := benchmarkMessage()
	by := &Origin{UID: new(uint32(1000)), PID: 4242, Command: []string{"docker", "start", "web"}}
	for range count {
		if _, err := j.PublishBy(by, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, enough) {
		t.Fatalf("after event %d: %v", last, err)
	}
	each := float64(allocations()-before) / count
	t.Logf("%.1f allocations an event", each)
	if !testenv.Race && each > most {
		t.Errorf("%.1f allocations an event, want %d at most", each, most)
	}
}

func benchmarkMessage() events.Message {
	return events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{
		ID:         "9bc9e149bd4ea713b0d1bd430e99873004ee2c494152fb276531a37880b300df",
		Attributes: map[string]string{"image": "busybox", "name": "web"},
	}}
}

func BenchmarkPublish(b *testing.B) {
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	m := benchmarkMessage()
	by := &Origin{UID: new(uint32(1000)), PID: 4242, Command: []string{"docker", "start", "web"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.PublishBy(by, m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkRead(b *testing.B) {
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	const count = 10_000
	for range count {
		if _, err := j.Publish(benchmarkMessage()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		if err := j.Read(b.Context(), ReadOptions{Since: always, NoFollow: true}, nil, func(Record) error { n++; return nil }); err != nil || n != count {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(count*b.N)/b.Elapsed().Seconds(), "events/s")
}
