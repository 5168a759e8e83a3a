package flush

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// bed is a group with two databases.
type bed struct {
	t   testing.TB
	dir string
	g   *Group
	dbs []*bbolt.DB
}

var names = []string{"a.db", "sub/b.db"}

func newBed(t testing.TB, dir, boot string) *bed {
	t.Helper()
	b := &bed{t: t, dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.g, err = open(filepath.Join(dir, "flushed"), boot, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	b.g.interval = time.Hour // the tests flush themselves
	for _, name := range names {
		db, err := bbolt.Open(filepath.Join(dir, name), 0o600, &bbolt.Options{
			NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: Room, Timeout: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.g.Add(db); err != nil {
			t.Fatal(err)
		}
		b.dbs = append(b.dbs, db)
	}
	t.Cleanup(b.close)
	return b
}

func (b *bed) close() {
	if err := b.g.Close(); err != nil {
		b.t.Error(err)
	}
	for _, db := range b.dbs {
		if err := db.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

// put makes transaction n in each database: it sets "last", and changes some keys
// so that pages are freed and used again.
func (b *bed) put(n int) {
	b.t.Helper()
	for _, db := range b.dbs {
		if err := put(db, n); err != nil {
			b.t.Fatal(err)
		}
	}
}

func put(db *bbolt.DB, n int) error {
	return db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		for i := range 20 {
			key := fmt.Appendf(nil, "key %d", (n*7+i*13)%300)
			if err := bucket.Put(key, fmt.Appendf(nil, "%0200d", n)); err != nil {
				return err
			}
		}
		if err := bucket.Delete(fmt.Appendf(nil, "key %d", (n*11)%300)); err != nil {
			return err
		}
		return bucket.Put([]byte("last"), binary.BigEndian.AppendUint64(nil, uint64(n)))
	})
}

// lasts are the newest transactions in the databases of dir, which are checked.
func lasts(t *testing.T, dir string) []int {
	t.Helper()
	var list []int
	for _, name := range names {
		db, err := bbolt.Open(filepath.Join(dir, name), 0o600, &bbolt.Options{NoFreelistSync: true, Timeout: time.Second})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("%s: %v", name, err)
			}
			if bucket := tx.Bucket([]byte("b")); bucket != nil {
				list = append(list, int(binary.BigEndian.Uint64(bucket.Get([]byte("last")))))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// It can be written to as well, and is whole then.
		if err := put(db, 1000); err != nil {
			t.Fatal(err)
		}
		_ = db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("%s, written to: %v", name, err)
			}
			return nil
		})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// disk is what the files of a bed are as far as they were flushed.
func (b *bed) disk() map[string][]byte {
	b.t.Helper()
	files := map[string][]byte{}
	for _, name := range append([]string{"flushed"}, names...) {
		files[name] = read(b.t, filepath.Join(b.dir, name))
	}
	return files
}

// crash makes the files that a crash of the machine leaves: of each page that was
// written since disk either the old content or the new. The mark is what was
// flushed.
func (b *bed) crash(disk map[string][]byte, random *rand.Rand) string {
	b.t.Helper()
	dir := b.t.TempDir()
	write(b.t, filepath.Join(dir, "flushed"), disk["flushed"])
	for _, name := range names {
		data, old := read(b.t, filepath.Join(b.dir, name)), disk[name]
		for at := 0; at < len(data); at += 4096 {
			if random.IntN(2) == 0 {
				continue
			}
			clear(data[at:min(at+4096, len(data))])
			copy(data[at:min(at+4096, len(data))], old[min(at, len(old)):])
		}
		write(b.t, filepath.Join(dir, name), data)
	}
	return dir
}

// reopen is a daemon's start, up to its databases.
func reopen(t *testing.T, dir, boot string) (restored bool) {
	t.Helper()
	g, err := open(filepath.Join(dir, "flushed"), boot, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return g.Restored
}

func TestCrashOfTheMachineGoesBackToTheLastFlush(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	for n := range 30 {
		b.put(n)
	}
	end := b.g.Begin()
	disk := b.disk()
	if err := b.g.Flush(); err != nil {
		t.Fatal(err)
	}
	flushed := 29
	for round := range 60 {
		random := rand.New(rand.NewPCG(uint64(round), 1))
		for range 1 + round%12 {
			b.put(30 + round*20 + random.IntN(20))
		}
		b.put(30 + round*20 + 19)
		dir := b.crash(disk, random)
		if !reopen(t, dir, "two") {
			t.Fatal("not restored")
		}
		if got, want := lasts(t, dir), []int{flushed, flushed}; !slices.Equal(got, want) {
			t.Fatalf("round %d: last transactions %v, want %v", round, got, want)
		}
		if reopen(t, dir, "two") {
			t.Fatal("restored once more")
		}
		if round%3 == 0 {
			if err := b.g.Flush(); err != nil {
				t.Fatal(err)
			}
			disk, flushed = b.disk(), 30+round*20+19
		}
	}
	b.put(2000)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	// All is on disk, and the next transactions wait for it.
	disk = b.disk()
	dir := b.crash(disk, rand.New(rand.NewPCG(1, 2)))
	if reopen(t, dir, "two") {
		t.Error("restored what was flushed to the end")
	}
	if got := lasts(t, dir); !slices.Equal(got, []int{2000, 2000}) {
		t.Errorf("last transactions %v after the end", got)
	}
	for _, db := range b.dbs {
		if db.NoSync {
			t.Error("transactions are not flushed after the end")
		}
	}
}

// Who ends is told when it is on disk, also while others go on.
func TestEndOfOneOfTwo(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	b.put(1)
	first, second := b.g.Begin(), b.g.Begin()
	b.put(2)
	if err := first(); err != nil {
		t.Fatal(err)
	}
	disk := b.disk()
	b.put(3)
	dir := b.crash(disk, rand.New(rand.NewPCG(5, 6)))
	reopen(t, dir, "two")
	if got := lasts(t, dir); !slices.Equal(got, []int{2, 2}) {
		t.Errorf("last transactions %v", got)
	}
	if err := second(); err != nil {
		t.Fatal(err)
	}
}

func TestDeathOfTheProcessLosesNothing(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	b.put(1)
	defer func() { _ = b.g.Begin()() }()
	end := b.g.Begin()
	defer func() { _ = end() }()
	b.put(2)
	if !b.dbs[0].NoSync {
		t.Fatal("transactions are flushed")
	}
	dir := t.TempDir()
	for name, data := range b.disk() {
		write(t, filepath.Join(dir, name), data)
	}
	if reopen(t, dir, "one") {
		t.Error("restored though the machine goes on")
	}
	if got := lasts(t, dir); !slices.Equal(got, []int{2, 2}) {
		t.Errorf("last transactions %v", got)
	}
	// What the next daemon writes is flushed, and no crash goes back behind it.
	if reopen(t, dir, "two") {
		t.Error("restored databases that were closed")
	}
	if got := lasts(t, dir); !slices.Equal(got, []int{1000, 1000}) {
		t.Errorf("last transactions %v after the next daemon's", got)
	}
}

func TestTornMark(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	b.put(1)
	end := b.g.Begin()
	disk := b.disk()
	b.put(2)
	if err := b.g.Flush(); err != nil {
		t.Fatal(err)
	}
	torn := slices.Clone(b.disk()["flushed"])
	newer := b.g.mark.last.Number % slots * slotSize
	clear(torn[newer+20 : newer+60])
	disk["flushed"] = torn
	dir := b.crash(disk, rand.New(rand.NewPCG(3, 4)))
	if !reopen(t, dir, "two") {
		t.Error("not restored")
	}
	if got := lasts(t, dir); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("last transactions %v", got)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// A database that has to map more of its file waits for its readers. The group
// must not be one of them for long.
func TestOutgrownRoom(t *testing.T) {
	dir := t.TempDir()
	g, err := open(filepath.Join(dir, "flushed"), "one", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(dir, "a.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Add(db); err != nil {
		t.Fatal(err)
	}
	g.interval = 10 * time.Millisecond // what notices it
	end := g.Begin()
	for n := range 8 {
		err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return bucket.Put(fmt.Appendf(nil, "%d", n), make([]byte, 50_000))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if db.NoSync {
		t.Error("transactions are not flushed after the end")
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if reopen(t, dir, "two") {
		t.Error("restored")
	}
}

// awaitWriter waits until a goroutine is on its way to write to a database, and
// waits for the transaction that does. Nothing but its stack tells so.
func awaitWriter(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		if n := runtime.Stack(stacks, true); bytes.Contains(stacks[:n], []byte("bbolt.(*DB).beginRWTx")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody waits for a transaction:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// Begin and its end wait for the writer of a database, who may wait for what is
// held.
func TestOutgrownWhileWaitedFor(t *testing.T) {
	for _, ending := range []bool{false, true} {
		t.Run(fmt.Sprintf("end=%v", ending), func(t *testing.T) {
			dir := t.TempDir()
			g, err := open(filepath.Join(dir, "flushed"), "one", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			db, err := bbolt.Open(filepath.Join(dir, "a.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Add(db); err != nil {
				t.Fatal(err)
			}
			g.interval = 10 * time.Millisecond
			wait := func() error { return g.Begin()() }
			if ending {
				wait = g.Begin()
			}
			tx, err := db.Begin(true)
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan error, 2)
			go func() { over <- wait() }()
			awaitWriter(t)
			go func() {
				bucket, err := tx.CreateBucket([]byte("b"))
				if err == nil {
					err = errors.Join(bucket.Put([]byte("large"), make([]byte, 500_000)), tx.Commit())
				}
				over <- err
			}()
			for range 2 {
				select {
				case err := <-over:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("they wait for each other")
				}
			}
			if err := errors.Join(g.Close(), db.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A disk that fails once may have lost anything since the last flush, whatever it
// says later.
func TestDiskThatFails(t *testing.T) {
	tests := []struct {
		name      string
		mark, end bool // what cannot be flushed, and when
	}{
		{"databases", false, false},
		{"mark", true, false},
		{"databases at the end", false, true},
		{"mark at the end", true, true},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, t.TempDir(), "one")
			b.put(0)
			end := b.g.Begin()
			b.put(30)
			if err := b.g.Flush(); err != nil {
				t.Fatal(err)
			}
			disks := []map[string][]byte{b.disk()} // what may be on disk, whatever else is
			b.put(31)
			failing := true
			fails := func() error {
				if !failing {
					return nil
				}
				failing = false
				if c.mark { // the databases are flushed; the mark is on disk, or that before
					with, without := b.disk(), b.disk()
					without["flushed"] = disks[0]["flushed"]
					disks = []map[string][]byte{without}
					if !c.end { // at the end each transaction is flushed from then on
						disks = append(disks, with)
					}
				}
				return taken(func() error { return unix.EIO })
			}
			if c.mark {
				b.g.mark.sync = fails
			} else {
				b.g.sync = func(*bbolt.DB) error { return fails() }
			}
			flush := b.g.Flush
			if c.end {
				flush = end
			}
			if err := flush(); !errors.Is(err, unix.EIO) {
				t.Fatalf("flushed: %v", err)
			}
			noted := b.disk()["flushed"]
			for n := 32; n < 100; n++ { // pages that were freed are used again
				b.put(n)
			}
			for range 2 {
				if err := b.g.Flush(); !errors.Is(err, unix.EIO) {
					t.Fatalf("flushed again: %v", err)
				}
			}
			after := maps.Clone(disks[0])
			after["flushed"] = noted
			for _, disk := range append(disks, after) {
				for seed := range uint64(10) {
					dir := b.crash(disk, rand.New(rand.NewPCG(seed, 5)))
					reopen(t, dir, "two")
					got := lasts(t, dir)
					if !slices.Equal(got, []int{30, 30}) && !(c.mark && slices.Equal(got, []int{31, 31})) {
						t.Fatalf("last transactions %v after a crash", got)
					}
				}
			}
			if err := end(); !errors.Is(err, unix.EIO) {
				t.Errorf("ended: %v", err)
			}
			if err := b.g.Close(); !errors.Is(err, unix.EIO) {
				t.Errorf("closed: %v", err)
			}
			dir := t.TempDir()
			for name, data := range b.disk() {
				write(t, filepath.Join(dir, name), data)
			}
			if !reopen(t, dir, "one") {
				t.Error("not put back by the next daemon")
			}
			if got := lasts(t, dir); !slices.Equal(got, []int{30, 30}) {
				t.Errorf("last transactions %v at the next daemon's start", got)
			}
		})
	}
}

// While a database is held none of its transactions waits for the disk, and none comes between: bolt goes by a root that
// the disk has not taken, and overwrites what it has replaced.
func TestNoFlushedTransactionWhileHeld(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	b.put(0)
	flushed := b.g.sync
	between := func(when string) {
		b.g.sync = func(db *bbolt.DB) error {
			for _, other := range b.dbs {
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					_ = put(other, 50)
				}()
				t.Cleanup(func() { <-wrote })
				select {
				case <-wrote:
					t.Errorf("%s: a transaction comes between", when)
				case <-time.After(20 * time.Millisecond):
				}
			}
			return flushed(db)
		}
	}
	between("begin")
	end := b.g.Begin()
	b.g.sync = flushed
	for _, db := range b.dbs {
		if !db.NoSync {
			t.Error("what is held is flushed by transaction")
		}
	}
	between("end")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	b.g.sync = flushed
}

// After the disk has failed, what is marked is left alone until the databases are closed, one after the other.
func TestReleaseAfterFailure(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t, dir, "one")
	b.put(0)
	end := b.g.Begin()
	b.put(30)
	if err := b.g.Flush(); err != nil {
		t.Fatal(err)
	}
	b.put(31)
	b.g.sync = func(*bbolt.DB) error { return taken(func() error { return unix.EIO }) }
	if err := end(); !errors.Is(err, unix.EIO) {
		t.Fatalf("ended: %v", err)
	}
	for _, db := range b.dbs {
		if !db.NoSync {
			t.Error("what is held is flushed by transaction")
		}
	}
	if err := b.g.Release(b.dbs[1]); !errors.Is(err, unix.EIO) {
		t.Errorf("released: %v", err)
	}
	if err := b.dbs[1].Close(); err != nil {
		t.Error(err)
	}
	for n := 32; n < 200; n++ { // the other one is written to yet
		if err := put(b.dbs[0], n); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.g.Close(); !errors.Is(err, unix.EIO) {
		t.Errorf("closed: %v", err)
	}
	if err := b.dbs[0].Close(); err != nil {
		t.Error(err)
	}
	if !reopen(t, dir, "one") {
		t.Error("not put back")
	}
	if got := lasts(t, dir); !slices.Equal(got, []int{30, 30}) {
		t.Errorf("last transactions %v", got)
	}
}

func TestMakeRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for range 2 {
		if err := MakeRoom(path); err != nil {
			t.Fatal(err)
		}
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := put(db, 1); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != Room/8 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// Writers, flushes and users of the group at the same time.
func TestConcurrentUse(t *testing.T) {
	b := newBed(t, t.TempDir(), "one")
	b.g.interval = time.Millisecond
	b.put(0)
	var all sync.WaitGroup
	failed := make(chan error, 100)
	for worker := range 4 {
		all.Go(func() {
			for n := range 20 {
				end := b.g.Begin()
				if err := put(b.dbs[worker%2], n); err != nil {
					failed <- err
				}
				if n%5 == 0 {
					if err := b.g.Flush(); err != nil {
						failed <- err
					}
				}
				if err := end(); err != nil {
					failed <- err
				}
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if b.g.active.Load() || b.dbs[0].NoSync || b.dbs[1].NoSync {
		t.Error("something is put off after the last end")
	}
	for _, m := range b.g.members {
		if m.held != nil {
			t.Error("a read transaction is held after the last end")
		}
	}
}
