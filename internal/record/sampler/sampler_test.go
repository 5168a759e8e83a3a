package sampler

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/record/sample"
)

// counter is a source that counts its readings.
type counter struct {
	reads  uint64
	err    error
	closed atomic.Bool
}

func (c *counter) Read(r *Reading, _ *Scratch) error {
	c.reads++
	r.CPUUsage = c.reads
	return c.err
}

func (c *counter) Close() error {
	if c.closed.Swap(true) {
		return errors.New("closed twice")
	}
	return nil
}

func start(t testing.TB) *Sampler {
	t.Helper()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func add(t testing.TB, s *Sampler, id string, source Source) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), id)
	if err := s.Add(id, path, source); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSamplesAtFullSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		tick := time.NewTimer(300 * time.Millisecond)
		<-tick.C
		path := add(t, s, "a", &counter{})
		previous, last, err := s.Latest("a")
		if err != nil || previous.Seq != 0 || last.Seq != 1 {
			t.Errorf("at once: %d, %d, %v", previous.Seq, last.Seq, err)
		}
		for want := uint64(2); want <= 4; want++ {
			previous, last, err := s.Next(t.Context(), "a", want-1)
			if err != nil || last.Seq != want || last.CPUUsage != want || previous.Seq != want-1 {
				t.Errorf("reading %d: %+v after %+v, %v", want, last, previous, err)
			}
			if !last.Time.Truncate(time.Second).Equal(last.Time) || last.Known&sample.KnownHostCPU == 0 || last.HostCPU == 0 {
				t.Errorf("reading %d is of %v, host %d", want, last.Time, last.HostCPU)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r, err := sample.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		list, err := r.Range(time.Time{}, time.Time{})
		var got []uint64
		for _, s := range list {
			got = append(got, s.CPUUsage)
		}
		if diff := cmp.Diff([]uint64{1, 2, 3, 4}, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	})
}

func TestRemove(t *testing.T) {
	s := start(t)
	source := &counter{}
	path := add(t, s, "a", source)
	result := make(chan error, 1)
	go func() {
		var last Reading
		var err error
		for last.Seq = 1; err == nil; {
			_, last, err = s.Next(t.Context(), "a", last.Seq) // the last reading is one, too
		}
		result <- err
	}()
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if !source.closed.Load() {
		t.Error("the source was left open")
	}
	if err := s.Remove("a"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, _, err := s.Latest("a"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	r, err := sample.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if last, err := r.Latest(); err != nil || last.CPUUsage < 2 {
		t.Errorf("no last reading was taken: %v, %v", last.CPUUsage, err)
	}
}

func TestAddAgainAfterARestart(t *testing.T) {
	s := start(t)
	first, second := &counter{}, &counter{}
	add(t, s, "a", first)
	add(t, s, "a", second)
	if !first.closed.Load() || second.closed.Load() {
		t.Error("the old source is to be closed, and only that")
	}
	if n := s.Stats().Containers; n != 1 {
		t.Errorf("%d containers", n)
	}
}

func TestAfterClose(t *testing.T) {
	s := start(t)
	kept, late := &counter{}, &counter{}
	add(t, s, "kept", kept)
	if err := s.Close(); err != nil || !kept.closed.Load() {
		t.Errorf("close: %v, source closed: %v", err, kept.closed.Load())
	}
	if err := s.Add("late", filepath.Join(t.TempDir(), "late"), late); err == nil || !late.closed.Load() {
		t.Errorf("add: %v, source closed: %v", err, late.closed.Load())
	}
	if _, _, err := s.Next(t.Context(), "kept", 0); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestAddThatFailsClosesTheSource(t *testing.T) {
	s := start(t)
	source := &counter{}
	if err := s.Add("a", filepath.Join(t.TempDir(), "no", "such", "directory"), source); err == nil {
		t.Error("no error")
	}
	if !source.closed.Load() {
		t.Error("the source was left open")
	}
}

func TestSourceThatEndsOrFails(t *testing.T) {
	s := start(t)
	add(t, s, "ended", &counter{err: fmt.Errorf("read: %w", ErrEnded)})
	if _, _, err := s.Next(t.Context(), "ended", 0); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	if n := s.Stats().Failed; n != 0 {
		t.Errorf("an end is no failure, of which there are %d", n)
	}
	add(t, s, "failing", &counter{err: errors.New("broken")})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("client is gone")
	cancel(gone)
	if _, _, err := s.Next(ctx, "failing", 0); !errors.Is(err, gone) {
		t.Error(err)
	}
	if n := s.Stats().Failed; n == 0 {
		t.Error("the failure was not counted")
	}
}

// A ring on a full disk cannot grow: the present figures are told all the same.
func TestRingThatCannotBeWritten(t *testing.T) {
	s := start(t)
	path := add(t, s, "c", &counter{})
	broken, err := sample.OpenWriter(path+".broken", sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	c := s.containers["c"]
	swap := func(w *sample.Writer) (old *sample.Writer) {
		s.pass.Lock()
		defer s.pass.Unlock()
		old, c.ring = c.ring, w
		return old
	}
	whole := swap(broken)
	defer swap(whole)
	_, before, err := s.Latest("c")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	previous, last, err := s.Next(ctx, "c", before.Seq)
	if err != nil || last.Seq <= before.Seq || previous.CPUUsage >= last.CPUUsage {
		t.Errorf("after %d came %d and %d, %v", before.Seq, previous.Seq, last.Seq, err)
	}
	if n := s.Stats().Failed; n == 0 {
		t.Error("the failure was not counted")
	}
}

func TestEveryPartIsTakenOver(t *testing.T) {
	all := ^cgroup.Known(0)
	got := fromCounters(&cgroup.Counters{Known: all}).Known
	if want := sample.KnownNetwork - 1; got != want {
		t.Errorf("known parts are %b, want %b", got, want)
	}
}

func TestParseHostCPU(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       uint64
		ok         bool
	}{
		{"whole", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1", 280_000_000, true},
		{"seven fields", "cpu  1 2 3 4 5 6 7\n", 280_000_000, true},
		{"too short", "cpu  1 2 3\ncpu0 1 2 3 4 5", 0, false},
		{"something else", "cpu0 1 2 3 4 5 6 7\n", 0, false},
		{"nothing", "", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseHostCPU([]byte(tt.text))
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %d, %v", got, ok)
			}
		})
	}
}

func TestNextAfterRestart(t *testing.T) {
	s := start(t)
	add(t, s, "a", &counter{})
	if _, last, err := s.Next(t.Context(), "a", 5000); err != nil || last.Seq != 1 {
		t.Errorf("after a new source began to count: reading %d, %v", last.Seq, err)
	}
}
