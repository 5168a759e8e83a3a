package patient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin holds that what is stuck is given up, that it is not looked at a
// second time, and that those who wait for their turn get it.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, calls := make(chan struct{}), 0
		look := func() (int, error) {
			calls++
			<-stuck
			return 7, nil
		}
		for range 3 {
			if _, err := Within(t.Context(), "x", time.Second, look); !errors.Is(err, ErrLate) {
				t.Fatalf("error %v, want that it is late", err)
			}
		}
		synctest.Wait() // the look may not have begun, for all that its second tells
		if calls != 1 {
			t.Errorf("looked %d times at what is stuck", calls)
		}
		if n, err := Within(t.Context(), "y", time.Second, func() (int, error) { return 5, nil }); n != 5 || err != nil {
			t.Errorf("another one: %d, %v", n, err)
		}
		ended, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("client gone")
		cancel(cause)
		if _, err := Within(ended, "x", time.Second, look); !errors.Is(err, cause) {
			t.Errorf("error %v, want that of the context", err)
		}
		close(stuck)
		synctest.Wait()
		if n, err := Within(t.Context(), "x", time.Second, look); n != 7 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
}
