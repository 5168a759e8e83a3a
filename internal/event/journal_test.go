package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"
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
	f, err := os.OpenFile(filepath.Join(dir, "00000001.events"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"seq":3,"Type":"conta`)
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
	if len(j.first) < 10 {
		t.Errorf("only %d segments: the test did not test", len(j.first))
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

func BenchmarkPublish(b *testing.B) {
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	m := events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{ID: "x", Attributes: map[string]string{"image": "busybox", "name": "web"}}}
	for b.Loop() {
		if _, err := j.Publish(m); err != nil {
			b.Fatal(err)
		}
	}
}
