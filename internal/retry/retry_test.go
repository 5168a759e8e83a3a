package retry

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		Until(nil, func() error {
			at = append(at, time.Since(begin))
			if len(at) < 9 {
				return errors.New("not yet")
			}
			return nil
		})
		want := []time.Duration{1, 3, 7, 15, 31, 63, 123, 183, 243} // a minute at most between two
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("tried at %v, want %v", at, want)
		}
	})
}

func TestUntilDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		tried := 0
		time.AfterFunc(4*time.Second, func() { close(done) })
		Until(done, func() error { tried++; return errors.New("never") })
		if tried != 2 {
			t.Errorf("tried %d times in four seconds, want 2", tried)
		}
	})
}
