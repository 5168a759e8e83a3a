package sumline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A disk that is full amidst a line takes that one and none that comes later.
func TestShortWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h")
	l, _, err := OpenLog[string](path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	room := 1 << 20
	l.write = func(f *os.File, line []byte) (int, error) {
		if len(line) <= room {
			return f.Write(line)
		}
		n, err := f.Write(line[:room])
		return n, errors.Join(err, syscall.ENOSPC)
	}
	var want []string
	for n := range 40 {
		line := fmt.Sprintf("%060d", n)
		if room = 1 << 20; n%3 > 0 {
			room = n // twice in a row
		}
		err := l.Append(line)
		if full := n%3 > 0; full != errors.Is(err, syscall.ENOSPC) {
			t.Fatal(n, err)
		} else if !full {
			want = append(want, line)
		}
	}
	got, err := ReadLog[string](path)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Lines that come together are kept together, and the file stays bounded.
func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h")
	l, _, err := OpenLog[int](path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for n := range 100 {
		if err := l.Append(3*n, 3*n+1, 3*n+2); err != nil {
			t.Fatal(err)
		}
		got, err := ReadLog[int](path)
		if err != nil || len(got) > 22 || len(got) < min(10, 3*(n+1)) || got[len(got)-1] != 3*n+2 || !slices.IsSorted(got) {
			t.Fatal(n, got, err)
		}
	}
}
