package state

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	bolt "go.etcd.io/bbolt"
)

func open(t *testing.T) (*DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func record(n int) *Container {
	return &Container{
		ID: fmt.Sprintf("id%03d", n), Name: fmt.Sprintf("n%d", n), Created: time.Unix(int64(n), 0).UTC(),
		Config: &container.Config{}, HostConfig: &container.HostConfig{},
	}
}

func ids(t *testing.T, d *DB) []string {
	t.Helper()
	all, damaged, err := d.Containers()
	if err != nil || len(damaged) > 0 {
		t.Fatal(damaged, err)
	}
	got := []string{}
	for _, c := range all {
		got = append(got, c.ID)
	}
	return got
}

func TestRecordsSurviveReopen(t *testing.T) {
	d, path := open(t)
	for _, n := range []int{3, 1, 2} {
		if err := d.Put(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Delete(t.Context(), "id002"); err != nil {
		t.Fatal(err)
	}
	if err := d.PutLater(record(4)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if diff := cmp.Diff([]string{"id001", "id003", "id004"}, ids(t, again)); diff != "" {
		t.Errorf("records after reopen (-want +got):\n%s", diff)
	}
	if err := d.Put(t.Context(), record(9)); err == nil {
		t.Error("put into a closed file succeeded")
	}
}

func TestPutsGatherInOneTransaction(t *testing.T) {
	d, _ := open(t)
	before := pageWrites(d)
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			if err := d.Put(t.Context(), record(n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(ids(t, d)); got != 40 {
		t.Errorf("%d records, want 40", got)
	}
	if writes := pageWrites(d) - before; writes > 400 {
		t.Errorf("%d page writes for 40 concurrent puts: they do not gather", writes)
	}
}

func TestUnwrittenRecordNeedsNoTransaction(t *testing.T) {
	d, _ := open(t)
	before := pageWrites(d)
	d.mu.Lock() // keeps the writer away until both changes are there
	d.pending["id1"] = nil
	d.mu.Unlock()
	d.flush()
	if writes := pageWrites(d) - before; writes != 0 {
		t.Errorf("%d page writes for a delete of nothing", writes)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	_, path := open(t)
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: %v, want ErrInUse", err)
	}
}

func pageWrites(d *DB) int64 {
	stats := d.bolt.Stats()
	return stats.TxStats.GetWrite()
}

func BenchmarkPut(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for b.Loop() {
		if err := d.Put(b.Context(), record(1)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFailedWritesAreTriedAgain: what could not be written to a full disk is written when there is room again, but for
// changes whose makers were told.
func TestFailedWritesAreTriedAgain(t *testing.T) {
	d, path := open(t)
	full, reported := errors.New("no space left on device"), make(chan error, 10)
	var room atomic.Bool
	d.FailPoint(func() error {
		if !room.Load() {
			return full
		}
		return nil
	})
	d.OnFailure(func(err error) { reported <- err })
	if err := d.PutLater(&Container{ID: "later", Config: &container.Config{}, HostConfig: &container.HostConfig{}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(t.Context()); !errors.Is(err, full) {
		t.Errorf("Flush() = %v", err)
	}
	if err := d.Put(t.Context(), &Container{ID: "told"}); !errors.Is(err, full) {
		t.Errorf("Put() = %v", err)
	}
	if err := <-reported; !errors.Is(err, full) {
		t.Errorf("reported: %v", err)
	}
	room.Store(true)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); d.Pending() > 0; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nothing was tried again")
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	all, damaged, err := again.Containers()
	if err != nil || len(damaged) > 0 || len(all) != 1 || all[0].ID != "later" {
		t.Errorf("records: %v %v %v", all, damaged, err)
	}
}

// TestDamagedRecords: they are told of one by one, with what is left of them, and hide nobody else's.
func TestDamagedRecords(t *testing.T) {
	d, _ := open(t)
	if err := d.Put(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		for id, value := range map[string]string{
			"cut":   `{"id":"cut","name":"web","con`,
			"type":  `{"id":"type","name":"db","args":7,"config":{},"host_config":{}}`,
			"other": `{"id":"id001","config":{},"host_config":{}}`,
			"bare":  `{"id":"bare"}`,
		} {
			if err := tx.Bucket(bucketContainers).Put([]byte(id), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all, damaged, err := d.Containers()
	if err != nil || len(all) != 1 || all[0].ID != "id001" {
		t.Fatalf("records: %v %v", all, err)
	}
	got := map[string]string{}
	for _, bad := range damaged {
		if bad.Err == nil || bad.Rest.ID != bad.ID {
			t.Errorf("%+v", bad)
		}
		got[bad.ID] = bad.Rest.Name
	}
	if diff := cmp.Diff(map[string]string{"cut": "", "type": "db", "other": "", "bare": ""}, got); diff != "" {
		t.Errorf("damaged records and their names (-want +got):\n%s", diff)
	}
}
