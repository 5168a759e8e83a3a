package boltcheck

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

func options() *bolt.Options {
	return &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoSync: true}
}

// whole is a database with buckets in buckets and several levels of pages.
func whole(t testing.TB) (content []byte, pageSize int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole.db")
	b, err := bolt.Open(path, 0o600, options())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := b.Update(func(tx *bolt.Tx) error { return fill(tx, i) }); err != nil {
			t.Fatal(err)
		}
	}
	pageSize = b.Info().PageSize
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, pageSize
}

// judge has Check look at a file, and bbolt too if that finds nothing: what bbolt cannot read ends the test's process.
func judge(t *testing.T, content []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "judged.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Check(path)
	if after, e := os.ReadFile(path); e != nil || !bytes.Equal(content, after) {
		t.Errorf("the file was changed, %v", e)
	}
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		return err
	}
	b, e := bolt.Open(path, 0o600, options())
	if e != nil {
		t.Fatalf("bbolt opens what was not found damaged: %v", e)
	}
	defer b.Close()
	for range 2 { // one of the two roots may be damaged, until the second has been written
		if e := b.Update(func(tx *bolt.Tx) error { return fill(tx, 1000) }); e != nil {
			t.Fatalf("bbolt writes to what was not found damaged: %v", e)
		}
	}
	if e := b.View(func(tx *bolt.Tx) error {
		for e := range tx.Check() {
			t.Errorf("bbolt finds what was not found damaged: %v", e)
		}
		return nil
	}); e != nil {
		t.Fatal(e)
	}
	return nil
}

// TestDamagedPages: whatever a page is turned into, the file is found damaged, or bbolt can read and write it.
func TestDamagedPages(t *testing.T) {
	content, page := whole(t)
	if err := judge(t, content); err != nil {
		t.Fatal(err)
	}
	found := 0
	for at := range len(content) / page {
		for name, change := range map[string]func(p []byte){
			"empty":   func(p []byte) { clear(p) },
			"rubbish": func(p []byte) { copy(p, bytes.Repeat([]byte{0xa5}, len(p))) },
			"another": func(p []byte) { copy(p, content[3*page:4*page]) },
			"renamed": func(p []byte) { copy(p[8:], content[4*page+8:5*page]) },
			"half":    func(p []byte) { copy(p[len(p)/2:], content[4*page:]) },
			"shorter": func(p []byte) { p[10]-- },
			"longer":  func(p []byte) { p[10]++ },
			"wider":   func(p []byte) { p[12]++ },
		} {
			t.Run(fmt.Sprintf("%d %s", at, name), func(t *testing.T) {
				changed := bytes.Clone(content)
				change(changed[at*page : (at+1)*page])
				if judge(t, changed) != nil {
					found++
				}
			})
		}
	}
	if found < 100 {
		t.Errorf("%d files were found damaged: too few for the test to say anything", found)
	}
}

// TestWhole: what bbolt has written is whole, with long values, deleted keys, and with or without a list of free pages.
func TestWhole(t *testing.T) {
	for _, list := range []bool{false, true} {
		for seed := range uint64(3) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			path := filepath.Join(t.TempDir(), "whole.db")
			for range 4 {
				o := options()
				o.NoFreelistSync = !list
				b, err := bolt.Open(path, 0o600, o)
				if err != nil {
					t.Fatal(err)
				}
				for range 15 {
					if err := b.Update(func(tx *bolt.Tx) error { return shuffle(tx, rnd) }); err != nil {
						t.Fatal(err)
					}
				}
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				if err := Check(path); err != nil {
					t.Fatalf("seed %d, list of free pages %t: %v", seed, list, err)
				}
			}
		}
	}
}

func shuffle(tx *bolt.Tx, rnd *rand.Rand) error {
	name := func(most int) []byte { return fmt.Appendf(nil, "%x", rnd.IntN(most)) }
	outer, err := tx.CreateBucketIfNotExists(name(3))
	if err != nil {
		return err
	}
	inner, err := outer.CreateBucketIfNotExists(append([]byte("in"), name(20)...))
	if err != nil {
		return err
	}
	if rnd.IntN(20) == 0 {
		if err := outer.DeleteBucket(append([]byte("in"), name(20)...)); !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
	}
	for range rnd.IntN(60) {
		if rnd.IntN(3) == 0 {
			err = inner.Delete(name(2000))
		} else {
			err = inner.Put(name(2000), make([]byte, rnd.IntN(20)*rnd.IntN(300)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// FuzzCheck changes a database at any place.
func FuzzCheck(f *testing.F) {
	content, page := whole(f)
	f.Add(uint32(2*page), []byte{1})
	f.Add(uint32(3*page+10), []byte{0xff, 0xff})
	f.Add(uint32(4*page+16), bytes.Repeat([]byte{0x80}, 64))
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		changed := bytes.Clone(content)
		copy(changed[int(at)%len(changed):], with)
		_ = judge(t, changed)
	})
}

// fill writes buckets in buckets, as BuildKit's and containerd's databases have.
func fill(tx *bolt.Tx, i int) error {
	outer, err := tx.CreateBucketIfNotExists([]byte("outer"))
	if err != nil {
		return err
	}
	inner, err := outer.CreateBucketIfNotExists(fmt.Appendf(nil, "inner-%d", i%4))
	if err != nil {
		return err
	}
	for n := range 30 {
		if err := inner.Put(fmt.Appendf(nil, "%d-%d", i, n), bytes.Repeat([]byte{byte(n)}, 100)); err != nil {
			return err
		}
	}
	return nil
}

func TestCheckNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if err := Check(path); err != nil {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	// Whoever has it open may be in the middle of a change.
	b, err := bolt.Open(path, 0o600, options())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := Check(path); err != nil {
		t.Errorf("a file in use: %v", err)
	}
	path += ".other"
	if err := os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("another kind of file: %v, want %v", err, ErrDamaged)
	}
}

// TestUnreadable: what the disk cannot read is damage, and no SIGBUS that ends the process. A file that has become shorter
// behaves as such a sector.
func TestUnreadable(t *testing.T) {
	content, page := whole(t)
	path := filepath.Join(t.TempDir(), "short.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	if err := readable(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(2*page)); err != nil {
		t.Fatal(err)
	}
	if err := readable(data); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
}
