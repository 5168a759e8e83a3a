package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestDamagedFile: a file that is not what it was stops the start with an error that names it and says what to do, and
// is not changed.
func TestDamagedFile(t *testing.T) {
	const page = 4096
	d, path := open(t)
	for i := range 200 { // some pages of records
		if err := d.Put(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"not a database":   func([]byte) []byte { return bytes.Repeat([]byte("no database "), 1000) },
		"no meta page":     func(b []byte) []byte { clear(b[:2*page]); return b },
		"cut off":          func(b []byte) []byte { return b[:4*page] },
		"all but the meta": func(b []byte) []byte { clear(b[2*page:]); return b },
		"rubbish": func(b []byte) []byte {
			copy(b[2*page:], bytes.Repeat([]byte{0xa5}, len(b)))
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			content := change(bytes.Clone(whole))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := Open(path)
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("Open says %v, want %v", err, ErrDamaged)
			}
			for _, want := range []string{path, "put back a copy", "move it and the directory"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(content, after) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// TestExpect: that the records are gone is seen by the files of their containers.
func TestExpect(t *testing.T) {
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	for name, c := range map[string]struct {
		file   string // its content; "-": there is none
		there  []string
		refuse bool
	}{
		"a first start":                {"-", nil, false},
		"a first start that was cut":   {"", nil, false},
		"records and containers":       {"records", []string{one, two}, false},
		"no file":                      {"-", []string{one}, true},
		"an empty file":                {"", []string{one, two}, true},
		"no file, and nothing of ours": {"-", []string{".hidden", "lost+found"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, containers := filepath.Join(dir, "state.db"), filepath.Join(dir, "containers")
			if c.file != "-" {
				if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range c.there {
				if err := os.MkdirAll(filepath.Join(containers, id), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			err := Expect(path, containers)
			if errors.Is(err, ErrMissing) != c.refuse || !c.refuse && err != nil {
				t.Errorf("Expect says %v, refusal wanted: %v", err, c.refuse)
			}
		})
	}
}

// TestBeginAtOnce: of several that begin a file at once each has the one that has the name in the end.
func TestBeginAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "state.db")
		var all sync.WaitGroup
		var first atomic.Pointer[os.FileInfo]
		for range 4 {
			all.Go(func() {
				if err := begin(path); err != nil {
					t.Error(err)
					return
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Error(err)
				} else if !first.CompareAndSwap(nil, &info) && !os.SameFile(*first.Load(), info) {
					t.Error("the file was replaced")
				}
			})
		}
		all.Wait()
		if list, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(list) != 1 {
			t.Errorf("there are %q, %v", list, err)
		}
	}
}
