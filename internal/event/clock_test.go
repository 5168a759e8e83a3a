package event

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestClockIsSet sets the clock while events are published.
func TestClockIsSet(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	j := open(t, t.TempDir(), Options{})
	at := func(after time.Duration, id string) Record {
		t.Helper()
		j.now = func() time.Time { return begin.Add(after) }
		return publish(t, j, id)
	}
	at(0, "first")
	at(24*time.Hour, "a day later")
	back := at(time.Minute, "set back")
	if want := begin.Add(time.Minute).UnixNano(); back.TimeNano != want {
		t.Errorf("the event after the clock was set back has the time %v, want %v", time.Unix(0, back.TimeNano), time.Unix(0, want))
	}
	little := at(time.Minute-time.Second, "a second back")
	if little.TimeNano != back.TimeNano+1 {
		t.Errorf("%d follows %d: one that went back a second does not go on", little.TimeNano, back.TimeNano)
	}
	for _, tt := range []struct {
		since, until time.Duration
		want         []string
	}{
		{-time.Hour, 2 * time.Minute, []string{"first", "set back", "a second back"}},
		{30 * time.Second, 2 * time.Minute, []string{"set back", "a second back"}},
		{-time.Hour, 25 * time.Hour, []string{"first", "a day later", "set back", "a second back"}},
		{-time.Hour, 30 * time.Second, []string{"first"}},
	} {
		got := replay(t, j, ReadOptions{Since: begin.Add(tt.since), Until: begin.Add(tt.until)})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("from %v to %v: %s", tt.since, tt.until, diff)
		}
	}
}

// TestClockSetFarAhead sees that events are not removed for their age when they have none.
func TestClockSetFarAhead(t *testing.T) {
	j := open(t, t.TempDir(), Options{MaxSize: 300, MaxSegments: 1000})
	for n := range 20 {
		publish(t, j, fmt.Sprint(n))
	}
	j.now = func() time.Time { return time.Now().Add(10 * 365 * 24 * time.Hour) }
	publish(t, j, "20")
	if n := len(replay(t, j, ReadOptions{Since: always})); n != 21 {
		t.Errorf("%d events are left, want 21", n)
	}
}
