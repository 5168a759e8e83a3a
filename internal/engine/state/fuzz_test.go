package state

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen opens a file in which bytes were changed: it is read, or refused and
// left as it is, and the program lives.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "state.db")
	d, err := Open(path)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 40 {
		if err := d.PutLater(record(i)); err != nil {
			f.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{}, uint32(0))
	f.Add(uint32(4096), []byte{0xff, 0xff}, uint32(0))
	f.Add(uint32(2*4096+8), []byte{1}, uint32(0))
	f.Add(uint32(3*4096+16), bytes.Repeat([]byte{0xff}, 16), uint32(0))
	f.Add(uint32(0), []byte{}, uint32(4096))
	f.Fuzz(func(t *testing.T, at uint32, change []byte, cut uint32) {
		content := bytes.Clone(whole)
		for i, c := range change {
			content[(int(at)+i)%len(content)] ^= c
		}
		content = content[:len(content)-int(cut)%len(content)]
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path)
		if err != nil {
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(content, after) {
				t.Errorf("the file was refused, and changed: %v", err)
			}
			return
		}
		all, damaged, err := d.Containers()
		if err == nil && len(all)+len(damaged) > 1000 {
			t.Errorf("%d records, %d damaged", len(all), len(damaged))
		}
		if err := d.Put(t.Context(), record(1)); err != nil {
			t.Logf("put: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
}
