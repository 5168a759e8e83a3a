package steady

import (
	"testing"
	"time"
)

func TestNow(t *testing.T) {
	now := time.Now()
	if got := Now(); got.Sub(now).Abs() > time.Minute {
		t.Errorf("%v with a clock that nobody sets, which says %v", got, now)
	}
	// What cannot be done to this machine's clock: began has its reading, and another time of day.
	for _, set := range []time.Duration{365 * 24 * time.Hour, -time.Hour} {
		if got, want := earlier(now.Add(set), now), now.Add(min(set, 0)); !got.Equal(want) {
			t.Errorf("set by %v: %v, want %v", set, got, want)
		}
	}
}
