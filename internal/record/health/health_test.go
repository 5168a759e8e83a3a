package health

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func result(n int) Result {
	at := time.Unix(int64(n), 0).UTC()
	return Result{Run: 1, Start: at, End: at, ExitCode: n, Output: strings.Repeat("x", n%7), Status: "healthy"}
}

func fill(t testing.TB, path string, from, to int) {
	t.Helper()
	l, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		if err := l.Append(result(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAppendAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	fill(t, path, 0, 3)
	fill(t, path, 3, 4) // over a restart
	got, err := Read(path)
	if diff := cmp.Diff([]Result{result(0), result(1), result(2), result(3)}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h")
	const many = 5*Keep + 7
	fill(t, path, 0, many)
	got, err := Read(path)
	if err != nil || len(got) < Keep || len(got) >= 2*Keep {
		t.Fatalf("%d results, %v", len(got), err)
	}
	for i, r := range got {
		if want := result(many - len(got) + i); r != want {
			t.Fatalf("result %d is %+v, want %+v", i, r, want)
		}
	}
}

// A crash at any byte of the last result leaves the others, and room for the next.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h")
	fill(t, path, 0, 2)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(whole), '\n') + 1
	for n := first; n < len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		fill(t, path, 5, 6)
		got, err := Read(path)
		if diff := cmp.Diff([]Result{result(0), result(5)}, got); err != nil || diff != "" {
			t.Fatalf("cut to %d of %d bytes: %v %s", n, len(whole), err, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "h")
	fill(f, path, 0, 3)
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "h")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		l, list, err := Open(path)
		if err != nil || len(list) != len(before) {
			t.Fatalf("%d results, then %d, %v", len(before), len(list), err)
		}
		if err := errors.Join(l.Append(result(1)), l.Close()); err != nil {
			t.Fatal(err)
		}
		if after, err := Read(path); err != nil || len(after) != len(before)+1 && len(before) < 2*Keep-1 {
			t.Errorf("%d results became %d, %v", len(before), len(after), err)
		}
	})
}
