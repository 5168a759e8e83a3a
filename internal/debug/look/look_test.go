package look

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
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
			if _, err := within(t.Context(), "x", look); !errdefs.IsUnavailable(err) {
				t.Fatalf("error %v, want unavailable", err)
			}
		}
		if calls != 1 {
			t.Errorf("looked %d times at what is stuck", calls)
		}
		if n, err := within(t.Context(), "y", func() (int, error) { return 5, nil }); n != 5 || err != nil {
			t.Errorf("another one: %d, %v", n, err)
		}
		ended, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("client gone")
		cancel(cause)
		if _, err := within(ended, "x", look); !errors.Is(err, cause) {
			t.Errorf("error %v, want that of the context", err)
		}
		close(stuck)
		synctest.Wait()
		if n, err := within(t.Context(), "x", look); n != 7 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
}

func TestAddMaps(t *testing.T) {
	const table = `55e1 r--p 00000000 fd:00 11 /bin/app
55e2 r-xp 00001000 fd:00 11 /bin/app
7f01 r-xp 00000000 fd:00 12 /lib/my lib.so (deleted)
7f02 rw-p 00000000 00:00 0
7f03 rw-s 00000000 00:01 9 /dev/zero (deleted)
7f04 rw-p 00000000 00:00 0 [heap]
`
	found := map[string]*api.MappedFile{}
	addMaps(found, []byte(table), 1)
	addMaps(found, []byte(table), 6)
	got := map[string]api.MappedFile{}
	for _, m := range found {
		got[m.Path] = *m
	}
	want := map[string]api.MappedFile{
		"/bin/app":       {Path: "/bin/app", Executable: true, Inode: 11, Processes: []int{1, 6}},
		"/lib/my lib.so": {Path: "/lib/my lib.so", Deleted: true, Executable: true, Inode: 12, Processes: []int{1, 6}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestModeText(t *testing.T) {
	for flags, want := range map[uint64]string{0o100000: "r", 0o100001: "w", 0o102002: "rw+a", 0o10100000: ""} {
		if got := modeText(flags); got != want {
			t.Errorf("modeText(%o) = %q, want %q", flags, got, want)
		}
	}
}
