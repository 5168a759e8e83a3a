package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0).UTC() }

func open(t *testing.T, dir string) *Book {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Three daemons, of which the first two were killed.
func TestGaps(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if got := b.Between(at(0), at(5)); got != nil {
		t.Errorf("before the first watch: %v", got)
	}
	check(t, b.Alive(at(5))) // there is no watch yet
	check(t, b.Begun(at(10)))
	check(t, b.Alive(at(20)))

	b = open(t, dir)
	want := []Gap{{at(20), at(25)}}
	if diff := cmp.Diff(want, b.Between(at(0), at(25))); diff != "" {
		t.Errorf("while nobody watches yet (-want +got):\n%s", diff)
	}
	check(t, b.Begun(at(30)))
	check(t, b.Alive(at(40)))

	b = open(t, dir)
	check(t, b.Begun(at(50)))
	for _, c := range []struct {
		name        string
		from, until int
		want        []Gap
	}{
		{"all", 0, 100, []Gap{{at(20), at(30)}, {at(40), at(50)}}},
		{"part of each", 25, 45, []Gap{{at(25), at(30)}, {at(40), at(45)}}},
		{"within one", 22, 28, []Gap{{at(22), at(28)}}},
		{"while there was a watch", 30, 40, nil},
		{"since", 50, 100, nil},
	} {
		if diff := cmp.Diff(c.want, b.Between(at(c.from), at(c.until))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if got := b.Marked(); !got.Equal(at(50)) {
		t.Errorf("marked %v", got)
	}
}

// A clock that was set back makes no gap.
func TestClockSetBack(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	check(t, b.Begun(at(10)))
	check(t, b.Alive(at(20)))
	b = open(t, dir)
	check(t, b.Begun(at(15)))
	if got := b.Between(at(0), at(100)); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestNil(t *testing.T) {
	var b *Book
	check(t, b.Begun(at(1)))
	check(t, b.Alive(at(1)))
	if got := b.Between(at(0), at(1)); got != nil {
		t.Errorf("got %v", got)
	}
	check(t, b.Close())
}
