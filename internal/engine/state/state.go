// Package state keeps what the engine must not forget: one record per container, in one bbolt file.
//
// [Open] gives a [DB]; [DB.Containers] reads all records once, when the daemon starts. After that the engine's memory is
// the truth and the file follows it: [DB.Put] and [DB.Delete] return when the change is on disk, [DB.PutLater] and
// [DB.DeleteLater] at once. One goroutine writes. It takes whatever has gathered into one transaction, so that ten
// containers created at the same time cost one fsync, and a record that is put and deleted before it was ever written
// costs none.
//
// What is written later is lost when the daemon is killed in the next 50 ms.
// That is safe for the life of a process, because its shim keeps the exit on disk by itself and the engine asks it.
//
//	state.db
//	  containers/   id -> JSON of Container
//	  meta/         "version" -> "1"
//
// What it leaves to others: images, volumes and networks keep their own books.
package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/diskroom"
	"github.com/portholehq/porthole/internal/failpoint"
)

// ErrInUse is returned by Open when another process holds the file.
var ErrInUse = errors.New("in use by another process")

const version = "1"

// laterDelay is how long a change that nobody waits for may stay in memory.
const laterDelay = 50 * time.Millisecond

// room is how much of the disk the file has beyond what it needs. A transaction writes pages anew, some 4 for a container:
// with a disk that is full there would be none for a removal.
const room = 1 << 20

// retryDelay is when changes that could not be written, say to a full disk, are tried again.
const retryDelay = time.Second

var (
	bucketContainers = []byte("containers")
	bucketMeta       = []byte("meta")
	keyVersion       = []byte("version")
)

// DB is an open state file. Its methods may be called from any goroutine.
type DB struct {
	bolt *bolt.DB
	wake chan struct{} // capacity 1
	done chan struct{} // closed when the writer has ended
	room *diskroom.File

	mu      sync.Mutex
	pending map[string][]byte // id -> JSON, nil: delete
	waiters []chan error      // of the changes in pending
	writing bool              // a transaction is under way
	closed  bool
	failed  error // of the last write; nil after one that succeeded

	report func(error)  // see OnFailure; nil: nobody is told
	fail   func() error // see FailPoint; nil: nothing fails
}

// Open opens or creates the file. It waits a second or two for another process to let go of it, and fails with
// [ErrInUse]. A file that cannot be read as a whole is [ErrDamaged].
func Open(path string) (*DB, error) {
	err := check(path)
	if err == nil {
		err = begin(path)
	}
	var b *bolt.DB
	if err == nil {
		b, err = bolt.Open(path, 0o600, options())
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open state file %q: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open state file %q: %w", path, err)
	}
	if err := prepare(b); err != nil {
		b.Close()
		return nil, fmt.Errorf("open state file %q: %w", path, err)
	}
	d := &DB{bolt: b, room: diskroom.New(path, room), wake: make(chan struct{}, 1), done: make(chan struct{}), pending: map[string][]byte{}}
	d.keepRoom()
	go d.write()
	return d, nil
}

func options() *bolt.Options {
	return &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType}
}

// begin makes a file that does not exist, or is empty. It gets its name when it is on disk: one that was torn when the machine
// went down would be a damaged one, and keep the daemon from starting.
func begin(path string) (err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	// Of two daemons that begin at once the second must not put its file in the place of the first one's.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer os.Remove(next) // which is there no more, if all goes well
	b, err := bolt.Open(next, 0o600, options())
	if err != nil {
		return err
	}
	if err := errors.Join(prepare(b), b.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return dir.Sync()
}

func prepare(b *bolt.DB) error {
	return b.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(bucketContainers); err != nil {
			return err
		}
		meta, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		switch have := meta.Get(keyVersion); {
		case have == nil:
			return meta.Put(keyVersion, []byte(version))
		case string(have) != version:
			return fmt.Errorf("version %s, this build knows only version %s", have, version)
		}
		return nil
	})
}

// Damaged is a record that cannot be read.
type Damaged struct {
	ID  string // under which it is kept
	Err error
	// Rest is what could be read of it, with ID set; the other fields may be zero.
	Rest *Container
}

// Containers returns all records in the order of their creation, and those that are damaged. A damaged one still stands
// for a container: to go on without it would mean to treat what the container has as a leftover.
func (d *DB) Containers() (all []*Container, damaged []Damaged, err error) {
	err = d.bolt.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketContainers).ForEach(func(key, value []byte) error {
			id, c := string(key), new(Container)
			err := json.Unmarshal(value, c)
			switch {
			case err == nil && c.ID != id:
				err = fmt.Errorf("it is that of %q", c.ID)
			case err == nil && (c.Config == nil || c.HostConfig == nil):
				err = errors.New("it has no configuration")
			}
			if err != nil {
				c.ID = id
				damaged = append(damaged, Damaged{ID: id, Err: fmt.Errorf("read record of container %s: %w", id, err), Rest: c})
				return nil
			}
			all = append(all, c)
			return nil
		})
	})
	slices.SortFunc(all, func(a, b *Container) int { return a.Created.Compare(b.Created) })
	return all, damaged, err
}

// Put saves a record and returns when it is on disk. When ctx ends first the record may still be written.
func (d *DB) Put(ctx context.Context, c *Container) error {
	wait, err := d.BeginPut(c)
	if err != nil {
		return err
	}
	return wait(ctx)
}

// BeginPut begins what Put does, before all later changes, and returns at once; wait, which has to be called, goes on.
func (d *DB) BeginPut(c *Container) (wait func(context.Context) error, err error) {
	value, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("save container %s: %w", c.ID, err)
	}
	return d.begin(c.ID, value)
}

// Delete removes a record and returns when that is on disk. A record that does not exist is no error.
func (d *DB) Delete(ctx context.Context, id string) error { return d.change(ctx, id, nil) }

// PutLater saves a record soon.
func (d *DB) PutLater(c *Container) error {
	value, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("save container %s: %w", c.ID, err)
	}
	return d.enqueue(c.ID, value, nil)
}

// DeleteLater removes a record soon.
func (d *DB) DeleteLater(id string) error { return d.enqueue(id, nil, nil) }

// Flush returns when all changes made so far are on disk.
func (d *DB) Flush(ctx context.Context) error {
	written := make(chan error, 1)
	d.mu.Lock()
	if d.closed || (len(d.pending) == 0 && !d.writing) {
		defer d.mu.Unlock()
		return d.failed
	}
	d.waiters = append(d.waiters, written)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	d.mu.Unlock()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("flush state file: %w", context.Cause(ctx))
	}
}

// Pending is the number of changes that are not on disk yet.
func (d *DB) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

// Close writes what is pending and closes the file.
func (d *DB) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	close(d.wake)
	<-d.done
	return errors.Join(d.failed, d.bolt.Close())
}

func (d *DB) change(ctx context.Context, id string, value []byte) error {
	wait, err := d.begin(id, value)
	if err != nil {
		return err
	}
	return wait(ctx)
}

func (d *DB) begin(id string, value []byte) (wait func(context.Context) error, err error) {
	written := make(chan error, 1)
	if err := d.enqueue(id, value, written); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		select {
		case err := <-written:
			if err != nil {
				d.withdraw(id, value)
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("save container %s: %w", id, context.Cause(ctx))
		}
	}, nil
}

// withdraw forgets a change whose maker has been told that it failed.
func (d *DB) withdraw(id string, value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now, ok := d.pending[id]; ok && bytes.Equal(now, value) {
		delete(d.pending, id)
	}
	if len(d.pending) == 0 && !d.writing {
		d.failed = nil
	}
}

// OnFailure has f called after each failure to write. Changes that failed are kept and tried again, unless it was Put or
// Delete that returned the error. It is to be called before the first change.
func (d *DB) OnFailure(f func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report = f
}

// FailPoint has f called before each write; its error makes that one fail. It is for tests.
func (d *DB) FailPoint(f func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

func (d *DB) enqueue(id string, value []byte, written chan error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("save container %s: state file is closed", id)
	}
	d.pending[id] = value
	if written != nil {
		d.waiters = append(d.waiters, written)
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// write is the only writer. It ends when wake is closed and all is written.
func (d *DB) write() {
	defer close(d.done)
	for range d.wake {
		d.gather()
		d.flush()
	}
	d.flush()
}

// gather lets changes that nobody waits for collect for a while: the start, the end and the removal of a short-lived
// container are then one change. It ends when somebody waits, or the file is closed.
func (d *DB) gather() {
	timer := time.NewTimer(laterDelay)
	defer timer.Stop()
	for !d.awaited() {
		select {
		case _, open := <-d.wake:
			if !open {
				return
			}
		case <-timer.C:
			return
		}
	}
}

func (d *DB) awaited() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiters) > 0
}

func (d *DB) flush() {
	d.mu.Lock()
	changes, waiters, fail := d.pending, d.waiters, d.fail
	d.pending, d.waiters, d.writing = map[string][]byte{}, nil, len(changes) > 0
	d.mu.Unlock()
	var err error
	if fail != nil {
		err = fail()
	}
	if err == nil {
		err = d.apply(changes)
	}
	d.settle(changes, err)
	for _, w := range waiters {
		w <- err
	}
	d.keepRoom()
}

// keepRoom is called after each write. A disk that has no room does without it, and what was kept is used.
func (d *DB) keepRoom() {
	_ = d.bolt.View(func(tx *bolt.Tx) error { return d.room.Keep(tx.Size()) })
}

// settle notes how a write went. After a failure the changes are pending again, but where there are newer ones.
func (d *DB) settle(changes map[string][]byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writing, d.failed = false, err
	if err == nil {
		return
	}
	for id, value := range changes {
		if _, newer := d.pending[id]; !newer {
			d.pending[id] = value
		}
	}
	if d.report != nil {
		d.report(err)
	}
	if !d.closed {
		time.AfterFunc(retryDelay, d.retry)
	}
}

func (d *DB) retry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.pending) == 0 {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// apply makes changes in one transaction. Deleting what was never written is dropped, and with nothing left there is
// no transaction and no fsync.
func (d *DB) apply(changes map[string][]byte) error {
	if len(changes) == 0 {
		return nil
	}
	if err := d.dropUnwritten(changes); err != nil || len(changes) == 0 {
		return err
	}
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		if err := failpoint.Hit("state.commit"); err != nil {
			return err
		}
		b := tx.Bucket(bucketContainers)
		for id, value := range changes {
			if value == nil {
				if err := b.Delete([]byte(id)); err != nil {
					return err
				}
				continue
			}
			if err := b.Put([]byte(id), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	failpoint.Pass("state.committed")
	return nil
}

func (d *DB) dropUnwritten(changes map[string][]byte) error {
	return d.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketContainers)
		for id, value := range changes {
			if value == nil && b.Get([]byte(id)) == nil {
				delete(changes, id)
			}
		}
		return nil
	})
}
