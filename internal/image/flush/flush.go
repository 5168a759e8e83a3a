// Package flush lets bolt databases go without a flush of every transaction for a
// while. A bolt transaction waits for the disk twice; a build makes hundreds of
// transactions that nobody waits for.
//
//	g, err := flush.Open(dir+"/flushed", logger) // before the databases are opened
//	db, err := bbolt.Open(path, mode, &bbolt.Options{InitialMmapSize: flush.Room})
//	err = g.Add(db)
//
//	end := g.Begin() // transactions of the group's databases do not wait for the disk
//	...
//	err = g.Flush()  // what was committed before is on disk
//	...
//	err = end()      // all is on disk, and transactions wait again
//
// What is promised:
//
//   - A transaction that was committed outlives the process, however that ends: it
//     is in the kernel's memory.
//   - After a crash of the machine all databases of the group are as they were
//     together at one moment: at the last Flush, or later. While transactions are
//     put off that happens by itself every [Interval].
//   - When the disk has not taken what was put off, no Flush succeeds any more, and
//     the next [Open] puts the databases back to the last that did.
//
// How: bolt never changes a page in its place while a transaction reads it. So a
// read transaction is held open in each database as of the moment of the last
// flush; all that bolt writes meanwhile goes to other pages, but for the two pages
// that name the root. The root of that moment is kept in a file beside, the mark.
// [Open] puts it back into databases that were open when the machine went down,
// which it tells by the kernel's boot ID.
//
// The mark has two slots of 4 KiB that are written in turn, each with a checksum
// in front, so that one of them is always whole:
//
//	crc32 (Castagnoli, 8 hexadecimal digits) ' ' record as JSON '\n' zeros
package flush

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/diskroom"
)

const (
	// Room is how much of a file bolt should map from the start. To map more, it
	// waits for the read transactions that are held here: a database that outgrows
	// its room is flushed by transaction until the next [Group.Begin].
	Room = 256 << 20
	// Interval is how often databases are flushed while their transactions do not
	// wait for it.
	Interval = 500 * time.Millisecond
	// patience is how long a read transaction may take to open before bolt is
	// taken to wait for the one that is held. On a busy machine others take long as
	// well, and outgrown is not for a database in the middle of a commit.
	patience = 2 * time.Second
	// growth is by how much a file grows that is smaller than its room. With all
	// of it mapped, bolt would take 16 MiB at once.
	growth = 256 << 10
	// diskRoom is how much of the disk a database has beyond what it needs.
	diskRoom = 1 << 20
)

// Group is some databases that are flushed together. It is safe for concurrent
// use.
type Group struct {
	log      *slog.Logger
	mark     *mark
	interval time.Duration
	// Restored tells that databases were put back to an earlier moment, as the
	// machine went down while they were not flushed.
	Restored bool

	// putting is held while Begin and its end change how databases are written. It
	// comes before any database's write lock, and before mu.
	putting sync.Mutex
	users   int
	closed  bool
	stop    chan struct{}
	ticking sync.WaitGroup

	// active is set while there may be something to flush.
	active atomic.Bool

	// mu is held during a flush. It comes after any database's write lock.
	mu      sync.Mutex
	members []*member
	// failed is that the disk has not taken something. Linux tells so once and has
	// the pages for written from then on, whether they are or not: another flush
	// would prove nothing.
	failed error
	// doubtful are held beside members, as the mark on disk may name them.
	doubtful []*member

	sync func(*bbolt.DB) error // [bbolt.DB.Sync]; tests have others
}

// member is one database.
type member struct {
	db   *bbolt.DB
	path string
	file *os.File // to read the roots
	// held reads the database as it was at the last flush; nil: every transaction
	// is flushed.
	held *bbolt.Tx
	root []byte // of held
	room *diskroom.File
}

// Open reads the mark in the file path, which is made if there is none, and puts
// back the databases that a crash of the machine may have left torn. None of them
// may be open.
func Open(path string, log *slog.Logger) (*Group, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	return open(path, boot, log)
}

func open(path, boot string, log *slog.Logger) (*Group, error) {
	m, err := openMark(path, boot)
	if err != nil {
		return nil, fmt.Errorf("open mark of flushes: %w", err)
	}
	g := &Group{log: log, mark: m, interval: Interval, sync: func(db *bbolt.DB) error { return taken(db.Sync) }}
	if g.Restored, err = m.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("put databases back to their last flush: %w", err), m.file.Close())
	}
	if g.Restored {
		log.Warn("the machine went down, or its disk failed, in the middle of builds: what they noted in the last moment is gone", "flushed", m.last.At)
	}
	return g, nil
}

// MakeRoom makes room in a database that bolt is going to map as large as its file
// is: the file, made if there is none, becomes a large one with nothing in it.
func MakeRoom(path string) error {
	const room = Room / 8
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: time.Second})
		if err != nil {
			return err
		}
		if err := db.Close(); err != nil {
			return err
		}
		return os.Truncate(path, room)
	}
	if err != nil || info.Size() >= room || info.Size() == 0 {
		return err
	}
	return os.Truncate(path, room)
}

// Add adds an open database to the group, before the first Begin.
func (g *Group) Add(db *bbolt.DB) error {
	f, err := os.Open(db.Path())
	if err != nil {
		return err
	}
	tx, err := db.Begin(true) // nobody else writes meanwhile
	if err != nil {
		return errors.Join(err, f.Close())
	}
	db.AllocSize = growth
	if err := tx.Rollback(); err != nil {
		return errors.Join(err, f.Close())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := &member{db: db, path: db.Path(), file: f, room: diskroom.New(db.Path(), diskRoom)}
	m.keepRoom()
	g.members = append(g.members, m)
	return nil
}

// Begin puts off the flushes of the group's transactions until end, or that of the
// last of several. Each end waits until all is on disk. If it cannot be done, every
// transaction is flushed as before, and the log tells why.
func (g *Group) Begin() (end func() error) {
	g.putting.Lock()
	defer g.putting.Unlock()
	end = sync.OnceValue(g.end)
	if g.users++; g.users > 1 || g.closed {
		return end
	}
	if err := g.putOff(); err != nil {
		g.log.Warn("databases are flushed at every transaction", "err", err)
	}
	return end
}

func (g *Group) putOff() error {
	err := g.locked(func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.active.Store(true)
		err := g.flushLocked(true)
		for _, m := range g.members {
			m.db.NoSync = g.pinned(m) && (err == nil || g.noted())
		}
		return err
	})
	if err != nil {
		return errors.Join(err, g.flushAllAgain())
	}
	g.stop = make(chan struct{})
	g.ticking.Go(func() { g.tick(g.stop) })
	return nil
}

// locked calls fn while nobody writes to any of the databases.
//
// While a database is held, none of its transactions may wait for the disk: if
// bolt's flush of a root fails, it goes by that root all the same, and uses at once
// what the transaction has freed, whoever still reads it. So what is held, and
// marked, would be overwritten.
func (g *Group) locked(fn func() error) (err error) {
	for _, m := range g.members {
		tx, beginErr := m.db.Begin(true)
		if beginErr != nil {
			return beginErr
		}
		defer func() { err = errors.Join(err, tx.Rollback()) }()
	}
	return fn()
}

// tick flushes now and then.
func (g *Group) tick(stop <-chan struct{}) {
	t := time.NewTicker(g.interval)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		if err := g.Flush(); errors.Is(err, errNotTaken) {
			return // that was logged, and does not change
		} else if err != nil {
			g.log.Error("databases are not flushed", "err", err)
		}
	}
}

// Flush waits until all that was committed before is on disk. Without a Begin
// nothing has to be done.
func (g *Group) Flush() error {
	if !g.active.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.active.Load() {
		return nil // the end has flushed it
	}
	return g.flushLocked(false)
}

func (g *Group) end() error {
	g.putting.Lock()
	g.users--
	if g.users > 0 {
		g.putting.Unlock()
		return g.Flush()
	}
	defer g.putting.Unlock()
	return g.flushAllAgain()
}

// flushAllAgain ends the putting off. The caller holds putting.
func (g *Group) flushAllAgain() error {
	if !g.active.Load() {
		return nil
	}
	err := g.locked(g.flushAll)
	// Not before: a writer that is waited for there may wait for what is held.
	if g.stop != nil {
		close(g.stop)
		g.ticking.Wait()
		g.stop = nil
	}
	return err
}

// flushAll has all on disk, and each transaction flushed from now on. Nobody writes meanwhile.
func (g *Group) flushAll() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		return g.failed
	}
	var failures []error
	for _, m := range g.members {
		if m.held == nil {
			continue
		}
		if err := g.sync(m.db); err != nil {
			return g.fail(err)
		}
	}
	if len(g.mark.last.Roots) > 0 {
		if err := g.mark.write(nil); err != nil {
			err = g.fail(err)
			for _, m := range g.members {
				// Else they may count as whole at the next start, and have to be.
				m.db.NoSync = g.pinned(m) && g.noted()
			}
			return err
		}
	}
	g.active.Store(false)
	for _, m := range g.members {
		failures = append(failures, m.let())
		m.db.NoSync = false
		m.keepRoom()
	}
	return errors.Join(failures...)
}

// flushLocked makes this moment the one that databases go back to. With all, it
// takes hold of those that are not held as well.
func (g *Group) flushLocked(all bool) (err error) {
	if g.failed != nil {
		return g.failed
	}
	var next []*member // as they are now, in the order of members
	defer func() {
		if err != nil {
			for _, n := range next {
				err = errors.Join(err, n.let())
			}
		}
	}()
	changed := all
	for _, m := range g.members {
		n := &member{db: m.db, path: m.path, file: m.file}
		next = append(next, n)
		if m.held == nil && !all {
			continue
		}
		if err := n.hold(); errors.Is(err, errMapping) {
			changed = true
			if err := g.outgrown(m); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		changed = changed || m.held == nil || m.held.ID() != n.held.ID()
	}
	if !changed {
		var failures []error
		for _, n := range next {
			failures = append(failures, n.let())
		}
		return errors.Join(failures...)
	}
	for _, n := range next {
		if n.held == nil {
			continue
		}
		if err := g.sync(n.db); err != nil {
			return g.fail(err)
		}
	}
	if err := g.mark.write(next); err != nil {
		if errors.Is(err, errNotTaken) {
			g.doubtful, next = next, nil
		}
		return g.fail(err)
	}
	var failures []error
	for i, m := range g.members {
		failures = append(failures, m.let())
		g.members[i].held, g.members[i].root = next[i].held, next[i].root
	}
	return errors.Join(failures...)
}

// outgrown goes back to flushing every transaction of a database that waits to
// map more of its file. That one is in the middle of a transaction, so it has to
// be let go, and what was committed before has to be whole by itself.
func (g *Group) outgrown(m *member) error {
	g.log.Info("a database has outgrown its room", "path", m.path)
	if err := g.sync(m.db); err != nil {
		return g.fail(err)
	}
	// Its writer waits in there for held, and looks at this afterwards.
	m.db.NoSync = false
	var rest []*member
	for _, other := range g.members {
		if other != m && other.held != nil {
			rest = append(rest, other)
		}
	}
	if err := g.mark.write(rest); err != nil {
		m.db.NoSync = true
		return g.fail(err)
	}
	return m.let()
}

// errNotTaken: the disk has not taken what was written.
var errNotTaken = errors.New("the disk did not take what was written")

// fail is called with what has kept a flush from its end. If that leaves unknown
// what is on disk, everything stays held and marked as it is, for the next Open to
// put back.
func (g *Group) fail(err error) error {
	r := g.mark.last
	if len(r.Roots) == 0 {
		r = g.mark.doubtful
	}
	if !errors.Is(err, errNotTaken) || len(r.Roots) == 0 {
		return err // or nothing was put off
	}
	g.failed = fmt.Errorf("%w; no change of images is kept until the daemon is restarted, which goes back to those of %s", err, r.At.Format(time.RFC3339))
	g.log.Error("images cannot be kept any more", "err", g.failed)
	r.Boot = "" // of no kernel
	if err := g.mark.put(r); err != nil {
		g.log.Error("that is not noted for the next start", "err", err)
	}
	return g.failed
}

// noted tells that the next Open puts back what is held, as the disk has failed.
func (g *Group) noted() bool { return g.failed != nil && g.mark.last.Boot == "" }

// pinned tells whether a moment of the database is held that the mark may name.
func (g *Group) pinned(m *member) bool {
	return m.held != nil || slices.ContainsFunc(g.doubtful, func(d *member) bool { return d.db == m.db && d.held != nil })
}

// taken flushes by fn until no signal interrupts it.
func taken(fn func() error) error {
	for {
		err := fn()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%w: %w", errNotTaken, err)
		}
	}
}

// Release takes a database out of the group, which may be closed then. The others
// stay as they are if the disk has failed: whoever writes to them until they are
// closed, too, must not overwrite what the next Open puts back.
func (g *Group) Release(db *bbolt.DB) error {
	g.putting.Lock()
	defer g.putting.Unlock()
	err := g.flushAllAgain()
	g.mu.Lock()
	defer g.mu.Unlock()
	failures := []error{err}
	for _, m := range g.doubtful {
		if m.db == db {
			failures = append(failures, m.let())
		}
	}
	if i := slices.IndexFunc(g.members, func(m *member) bool { return m.db == db }); i >= 0 {
		failures = append(failures, g.members[i].let(), g.members[i].file.Close())
		g.members = slices.Delete(g.members, i, i+1)
	}
	return errors.Join(failures...)
}

// Close ends all putting off. The databases have to be closed then; the group is
// of no use after it.
func (g *Group) Close() error {
	g.putting.Lock()
	defer g.putting.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	failures := []error{g.flushAllAgain()}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.doubtful {
		failures = append(failures, m.let())
	}
	for _, m := range g.members {
		failures = append(failures, m.let(), m.file.Close())
	}
	return errors.Join(append(failures, g.mark.file.Close())...)
}

// errMapping: a database waits for its readers to map more of its file.
var errMapping = errors.New("database waits for its readers")

// hold opens a read transaction, and reads the root that it reads by.
func (m *member) hold() error {
	type begun struct {
		tx  *bbolt.Tx
		err error
	}
	for range 1000 {
		came := make(chan begun, 1)
		go func() {
			tx, err := m.db.Begin(false)
			came <- begun{tx, err}
		}()
		var b begun
		select {
		case b = <-came:
		case <-time.After(patience):
			go func() {
				if b := <-came; b.err == nil {
					_ = b.tx.Rollback() // of a transaction that reads
				}
			}()
			return errMapping
		}
		if b.err != nil {
			return b.err
		}
		root, err := readRoot(m.file, b.tx.ID(), m.db.Info().PageSize)
		if err == nil {
			m.held, m.root = b.tx, root
			return nil
		}
		if err := errors.Join(err, b.tx.Rollback()); !errors.Is(err, errOtherRoot) {
			return err
		}
		// Two more transactions have been committed in between.
	}
	return fmt.Errorf("%s: %w", filepath.Base(m.path), errOtherRoot)
}

// keepRoom has room on the disk for transactions that remove something, by which a disk that is full gets room again.
// Where there is none they may fail.
func (m *member) keepRoom() {
	_ = m.db.View(func(tx *bbolt.Tx) error { return m.room.Keep(tx.Size()) })
}

// let ends the read transaction.
func (m *member) let() error {
	if m.held == nil {
		return nil
	}
	err := m.held.Rollback()
	m.held, m.root = nil, nil
	return err
}
