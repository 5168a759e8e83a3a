package flush

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// slotOf is a slot of a mark with that text, whose checksum is right.
func slotOf(body []byte) []byte {
	slot := make([]byte, slotSize)
	copy(slot, fmt.Sprintf("%s %s\n", checksum(body), body))
	return slot
}

// FuzzOpen holds of any mark: databases are put back to a root that was theirs, or
// stay as they are, no byte of them but their two roots is touched, and what was
// put back is so once. A mark whose newest slot is damaged goes by the other.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	b := newBed(f, dir, "one")
	b.put(1)
	end := b.g.Begin()
	if err := b.g.Flush(); err != nil {
		f.Fatal(err)
	}
	b.put(2)
	if err := b.g.Flush(); err != nil {
		f.Fatal(err)
	}
	b.put(3)
	disk := b.disk()
	if err := end(); err != nil {
		f.Fatal(err)
	}
	body := func(slot int) []byte {
		line, _, _ := bytes.Cut(disk["flushed"][slot*slotSize:], []byte("\n"))
		_, body, _ := bytes.Cut(line, []byte(" "))
		return bytes.Clone(body)
	}
	f.Add(body(0), body(1), false)
	f.Add(body(0), body(1), true)
	f.Add(body(0), []byte{}, false)
	f.Add([]byte(`{"number":9223372036854775807,"boot":"two","roots":[{"path":"a.db"}]}`), []byte(`{"number":-1}`), false)
	f.Add([]byte(`{"number":5,"boot":"","roots":[{"path":"","root":""},{"path":"gone.db"},{"path":"sub"}]}`), []byte(`null`), false)
	roots := map[string][][]byte{}
	for n := range slots {
		var r record
		if err := json.Unmarshal(body(n), &r); err != nil {
			f.Fatal(err)
		}
		for _, saved := range r.Roots {
			roots[saved.Path] = append(roots[saved.Path], saved.Root)
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte, torn bool) {
		if len(first)+10 > slotSize || len(second)+10 > slotSize {
			return
		}
		for _, body := range [][]byte{first, second} {
			var r record
			_ = json.Unmarshal(body, &r)
			for _, saved := range r.Roots {
				if !filepath.IsLocal(saved.Path) && saved.Path != "" {
					return // it is the daemon's own file: whom it names is changed
				}
			}
		}
		mark := append(slotOf(first), slotOf(second)...)
		if torn {
			mark[slotSize+len(second)/2] ^= 1
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "flushed"), mark)
		for _, name := range names {
			write(t, filepath.Join(dir, name), disk[name])
		}
		for _, boot := range []string{"two", "two", "three"} {
			before := map[string][]byte{}
			for _, name := range names {
				before[name] = read(t, filepath.Join(dir, name))
			}
			g, err := open(filepath.Join(dir, "flushed"), boot, slog.New(slog.DiscardHandler))
			for _, name := range names {
				after := read(t, filepath.Join(dir, name))
				checkRoots(t, name, roots[name], before[name], after)
				if !bytes.Equal(after, before[name]) && boot == "three" {
					t.Errorf("%s was put back once more", name)
				}
			}
			if err != nil {
				return
			}
			if g.Restored && boot == "three" {
				t.Error("restored once more")
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		if diff := lasts(t, dir); len(diff) != len(names) {
			t.Errorf("last transactions %v", diff)
		}
	})
}

// checkRoots compares a database with what it was.
func checkRoots(t *testing.T, name string, roots [][]byte, before, after []byte) {
	t.Helper()
	const page = 4096
	if len(before) != len(after) {
		t.Fatalf("%s had %d bytes, and has %d", name, len(before), len(after))
	}
	if bytes.Equal(before, after) {
		return
	}
	known := false
	for _, root := range roots {
		same := bytes.Equal(after[8:rootSize], root[8:])
		known = known || same && bytes.Equal(after[page+8:page+rootSize], root[8:])
	}
	if !known {
		t.Errorf("%s has a root that it never had", name)
	}
	for _, at := range []int{0, page} {
		copy(after[at:at+rootSize], before[at:at+rootSize])
	}
	if !bytes.Equal(before, after) {
		t.Errorf("%s was changed where it has no root", name)
	}
}
