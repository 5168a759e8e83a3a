package state

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTorn cuts the power in the middle of transactions. Before the first flush of one any of its sectors may be on disk, of
// the pages that name the root none; then all are, and of such a page any part. Each time the file has what it had before the
// transaction, or what it has after it.
func TestTorn(t *testing.T) {
	const (
		sector, page = 512, 4096
		roots        = 2 * page // the pages that name the root
		rootHead     = 80       // what counts in them
	)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	d, path := open(t)
	type moment struct {
		file []byte
		ids  []string
	}
	now := func() moment {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all, damaged, err := d.Containers()
		if err != nil || len(damaged) > 0 {
			t.Fatal(damaged, err)
		}
		m := moment{file: file}
		for _, c := range all {
			m.ids = append(m.ids, c.ID)
		}
		slices.Sort(m.ids)
		return m
	}
	// opened is what a daemon finds in a file.
	opened := func(file []byte) ([]string, error) {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		all, damaged, err := d.Containers()
		var ids []string
		for _, c := range all {
			ids = append(ids, c.ID)
		}
		for _, c := range damaged {
			err = errors.Join(err, c.Err)
		}
		slices.Sort(ids)
		return ids, err
	}
	tried, before := 0, now()
	for i := range 60 {
		var err error
		if i%5 == 4 {
			err = d.Delete(t.Context(), record(random.IntN(i)).ID)
		} else {
			err = d.Put(t.Context(), record(i))
		}
		if err != nil {
			t.Fatal(err)
		}
		after := now()
		old := append(bytes.Clone(before.file), make([]byte, len(after.file)-len(before.file))...)
		for cut := range 8 {
			file := bytes.Clone(old)
			for at := roots; at < len(file); at += sector {
				if cut == 0 || random.IntN(2) == 0 {
					copy(file[at:at+sector], after.file[at:at+sector])
				}
			}
			want := before.ids
			if cut >= 4 {
				copy(file[roots:], after.file[roots:])
				for at := 0; at < roots; at += page {
					n := random.IntN(rootHead + 1)
					copy(file[at:at+n], after.file[at:at+n])
				}
				want = nil // either
			}
			tried++
			got, err := opened(file)
			if err != nil || want != nil && !slices.Equal(got, want) || !slices.Equal(got, before.ids) && !slices.Equal(got, after.ids) {
				t.Errorf("transaction %d, cut %d: %v, before to after: %s\nafter to what is there: %s", i, cut, err,
					cmp.Diff(before.ids, after.ids), cmp.Diff(after.ids, got))
			}
		}
		before = after
	}
	t.Logf("%d files", tried)
}

// TestTornBeginning cuts it while the file is made: it is not there, or whole.
func TestTornBeginning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path+".new", make([]byte, 16384), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
}
