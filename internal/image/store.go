package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"

	"github.com/portholehq/porthole/internal/boltcheck"
	"github.com/portholehq/porthole/internal/image/flush"
	"github.com/portholehq/porthole/internal/image/packed"
	"github.com/portholehq/porthole/internal/image/remote"
	"github.com/portholehq/porthole/internal/retry"
)

const (
	// namespace is the containerd namespace of everything in the store.
	namespace = "porthole"
	// snapshotterName names the overlay snapshotter in the metadata database
	// and in the labels that keep snapshots alive.
	snapshotterName = "overlayfs"

	// labelTemporary marks leases that belong to one running operation. None
	// of them can be of use to the next process.
	labelTemporary = "porthole.temporary"
)

// Limits bound what one archive may use. An archive that passes a limit is
// refused as a whole.
type Limits = packed.Limits

// Options are the settings of a [Store].
type Options struct {
	// Root is the store's directory, made when it is missing.
	Root string
	// Logger receives what happens in the background; nil discards it.
	Logger *slog.Logger
	// Limits bound what an archive may make of itself; zero fields have
	// defaults.
	Limits Limits
	// Platform is what images have to run on; zero means this machine.
	Platform ocispec.Platform
	// Registries are the way to registries; nil leaves the store without.
	Registries *remote.Registries
	Transfers  Transfers
}

// Store is an open image store. It is safe for concurrent use; one process at
// a time can have a given directory open.
type Store struct {
	root   string
	logger *slog.Logger
	// containerdLog is logger as containerd's libraries want it.
	containerdLog *log.Entry
	limits        Limits
	platform      ocispec.Platform
	matcher       platforms.MatchComparer

	registries *remote.Registries
	transfers  Transfers
	downloads  *semaphore.Weighted // layers on their way in
	uploads    *semaphore.Weighted // blobs on their way out
	fetches    digestLocks

	db       *metadata.DB
	flushes  *flush.Group          // of the databases of images, snapshots and a builder
	overlay  snapshots.Snapshotter // below the metadata database; closed by Close
	flushed  *flushedSnapshots     // the same, as the metadata database has it
	content  content.Store
	snapshot snapshots.Snapshotter
	images   images.Store
	leases   leases.Manager

	states atomic.Pointer[func(ctx context.Context, ref string) (string, bool, error)] // see UseStates

	recovered  bool        // Close may take the unclean mark away
	unswept    atomic.Bool // there is work left for a later start, as the disk was full or broken
	failing    atomic.Bool // something could not be removed, see removalFailed
	sweeping   atomic.Bool // see sweepLater
	background sync.WaitGroup
	trash      sync.Mutex         // one at a time empties the trash
	untrashed  atomic.Bool        // something stays in there
	stop       context.CancelFunc // ends what runs in the background
	stopped    context.Context    // life of the background work, not of a call
	ending     sync.Mutex         // held for stop, and see later

	// mu guards the fields below. It is held for bookkeeping and one database
	// transaction at most, never while layers are read or written.
	mu sync.Mutex
	// resolved remembers what the targets of image records are made of.
	// Content is immutable, so entries only go when the image goes.
	resolved map[digest.Digest]*contents
	// lowers remembers the directories of a snapshot and its parents, topmost
	// first. An entry goes before its snapshot can go.
	lowers map[string][]string
	// rootfs counts the writable layers on each snapshot; held tells which of
	// these snapshots have lost their image and live by the holding lease.
	rootfs map[string]int
	held   map[string]bool
	// staying are the containers whose writable layers could not be removed.
	staying []string
	// broken are the leases of pulls that were killed, by id, with what they
	// pulled.
	broken map[string]string
}

// Open opens the store in opts.Root and puts right what an unclean end has
// left: unfinished unpackings go, removals go on. What pulls have fetched stays
// for a day, for the next pull of the same name. The caller closes the store.
func Open(ctx context.Context, opts Options) (*Store, error) {
	s := newStore(opts)
	// Without the directory of blobs containerd's garbage collection fails, and
	// what an interrupted first load has written would stay.
	blobs := filepath.Join(s.root, "content", "blobs", string(digest.Canonical))
	for _, dir := range []string{blobs, s.layersDir(), s.rootfsDir(), s.trashDir(), s.emptyDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make image store: %w", err)
		}
	}
	// The root of a container without layers looks like any other.
	if err := os.Chmod(s.emptyDir(), 0o755); err != nil {
		return nil, fmt.Errorf("make image store: %w", err)
	}
	if err := s.openBackend(); err != nil {
		return nil, fmt.Errorf("open image store %q: %w", s.root, err)
	}
	if err := s.recover(s.in(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("recover image store %q: %w", s.root, err), s.Close())
	}
	s.recovered = true
	return s, nil
}

func newStore(opts Options) *Store {
	s := &Store{
		root:     filepath.Clean(opts.Root),
		logger:   opts.Logger,
		limits:   opts.Limits.WithDefaults(),
		platform: opts.Platform,
		resolved: map[digest.Digest]*contents{},
		lowers:   map[string][]string{},
		rootfs:   map[string]int{},
		held:     map[string]bool{},
		broken:   map[string]string{},
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.containerdLog = newContainerdLog(s.logger)
	if s.platform.OS == "" {
		s.platform = platforms.DefaultSpec()
	}
	s.platform = platforms.Normalize(s.platform)
	s.registries, s.transfers = opts.Registries, opts.Transfers.withDefaults()
	s.downloads = semaphore.NewWeighted(int64(s.transfers.Downloads))
	s.uploads = semaphore.NewWeighted(int64(s.transfers.Uploads))
	s.matcher = platforms.Only(s.platform)
	s.stopped, s.stop = context.WithCancel(context.Background())
	return s
}

// openBackend opens containerd's parts; nothing stays open when it fails.
func (s *Store) openBackend() (err error) {
	var closers []io.Closer
	defer func() {
		if err == nil {
			return
		}
		for _, c := range closers {
			err = errors.Join(err, c.Close())
		}
	}()
	if s.flushes, err = flush.Open(filepath.Join(s.root, "flushed"), s.logger); err != nil {
		return err
	}
	for _, dir := range []string{s.root, s.overlayDir()} {
		if err := s.checkDatabase(filepath.Join(dir, "metadata.db")); err != nil {
			return errors.Join(err, s.flushes.Close())
		}
	}
	// The database comes first: its lock tells whether another process has
	// the store open.
	db, err := bbolt.Open(filepath.Join(s.root, "metadata.db"), 0o600, &bbolt.Options{
		Timeout:         time.Second,
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: flush.Room,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("open metadata.db (is another daemon using it?): %w", err), s.flushes.Close())
	}
	closers = append(closers, s.flushes, db)
	if err := s.flushes.Add(db); err != nil {
		return fmt.Errorf("open metadata.db: %w", err)
	}
	if err := s.dropProbes(); err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	blobs, err := local.NewStore(filepath.Join(s.root, "content"))
	if err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	if s.overlay, err = s.openSnapshots(s.overlayDir()); err != nil {
		return fmt.Errorf("open layers: %w", err)
	}
	closers = append(closers, s.overlay)
	s.flushed = &flushedSnapshots{Snapshotter: s.overlay, flushes: s.flushes, removed: s.sweepLater}
	s.db = metadata.NewDB(db, flushedContent{blobs, s.flushes, filepath.Join(s.root, "content", "ingest"), s.removeAgain, s.removalFailed},
		map[string]snapshots.Snapshotter{snapshotterName: s.flushed})
	if err := s.db.Init(s.in(context.Background())); err != nil {
		return fmt.Errorf("initialize metadata.db: %w", err)
	}
	s.content = s.db.ContentStore()
	s.snapshot = s.db.Snapshotter(snapshotterName)
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	return nil
}

// checkDatabase says what to do about a database of which bbolt cannot read all. There is nothing to go on with:
// what is not named in it is removed.
func (s *Store) checkDatabase(path string) error {
	err := boltcheck.Check(path)
	if errors.Is(err, boltcheck.ErrDamaged) {
		return fmt.Errorf("%q: %w: put back a copy of all of %q; or move that directory away, but then the daemon starts without an image, "+
			"and no container that there is can be started: save what they have written first, in layers/rootfs/ID", path, err, s.root)
	}
	return err
}

// removeAgain removes a directory that could not be removed, in the background.
func (s *Store) removeAgain(dir string) {
	s.unswept.Store(true) // should it stay until the end
	s.later(func() { retry.Until(s.stopped.Done(), func() error { return os.RemoveAll(dir) }) })
}

// dropProbes removes what the content store has left of a look at the file system during which the process was killed.
func (s *Store) dropProbes() error {
	left, err := filepath.Glob(filepath.Join(s.root, "content", ".fsverity-check-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// Close waits for background work, which it tells to stop, and closes the
// files. Removals that are not finished are taken up by the next Open.
func (s *Store) Close() error {
	s.ending.Lock() // after this, nothing begins in the background
	s.stop()
	s.ending.Unlock()
	s.background.Wait()
	err := errors.Join(s.flushes.Close(), s.overlay.Close(), s.db.Close())
	if err == nil && s.recovered && !s.unswept.Load() && !s.leftovers() {
		if err = os.Remove(s.uncleanMark()); errors.Is(err, fs.ErrNotExist) {
			err = nil // a full disk did not take it, or somebody has removed it
		}
	}
	if err != nil {
		return fmt.Errorf("close image store: %w", err)
	}
	return nil
}

// Backend gives the containerd parts of the store to a builder that works in
// the same store. They stay the store's: do not close them. Names that the
// builder sets and removes have the same effect as with [Store.Tag] and
// [Store.Remove]: no image and no layer of a container is lost.
type Backend struct {
	Namespace       string
	SnapshotterName string
	Content         content.Store
	Snapshotter     snapshots.Snapshotter
	Images          images.Store
	Leases          leases.Manager
	DB              *metadata.DB
	// Flushes are those of the databases behind all this. The builder may add its
	// own, which has to be as old as these after a crash.
	Flushes *flush.Group
	// Layers is the directory that all layers are below.
	Layers string
}

// Backend returns the parts that a builder needs.
func (s *Store) Backend() Backend {
	return Backend{
		Namespace:       namespace,
		SnapshotterName: snapshotterName,
		Content:         s.content,
		Snapshotter:     s.snapshot,
		Images:          builderImages{s.images, s},
		Leases:          s.leases,
		DB:              s.db,
		Flushes:         s.flushes,
		Layers:          s.layersDir(),
	}
}

func (s *Store) layersDir() string   { return filepath.Join(s.root, "layers") }
func (s *Store) overlayDir() string  { return filepath.Join(s.layersDir(), "overlay") }
func (s *Store) rootfsDir() string   { return filepath.Join(s.layersDir(), "rootfs") }
func (s *Store) trashDir() string    { return filepath.Join(s.layersDir(), "trash") }
func (s *Store) emptyDir() string    { return filepath.Join(s.layersDir(), "empty") }
func (s *Store) uncleanMark() string { return filepath.Join(s.root, "unclean") }

// in puts a context into the store's namespace and sends the libraries' log
// to the store's logger.
func (s *Store) in(ctx context.Context) context.Context {
	if ns, ok := namespaces.Namespace(ctx); ok && ns == namespace {
		return ctx
	}
	return namespaces.WithNamespace(log.WithLogger(ctx, s.containerdLog), namespace)
}

// newContainerdLog returns a log for containerd's libraries that ends in logger.
func newContainerdLog(logger *slog.Logger) *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(logHook{logger})
	return logrus.NewEntry(l)
}

// logHook carries warnings of containerd's libraries over to slog.
type logHook struct{ to *slog.Logger }

func (logHook) Levels() []logrus.Level { return logrus.AllLevels[:logrus.WarnLevel+1] }

func (h logHook) Fire(e *logrus.Entry) error {
	// Of use to nobody: most file systems have no fs-verity.
	if strings.Contains(e.Message, "fsverity") {
		return nil
	}
	attrs := []any{"detail", e.Message}
	for k, v := range e.Data {
		attrs = append(attrs, k, v)
	}
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	h.to.WarnContext(ctx, "image storage", attrs...)
	return nil
}

// lease opens a lease that keeps all that is written under the returned
// context. The function that it returns ends the lease and collects what
// nothing else refers to; call it once.
func (s *Store) lease(ctx context.Context) (context.Context, func(), error) {
	leased, end, err := s.pin(ctx)
	if err != nil {
		return nil, nil, err
	}
	return leased, func() {
		end()
		s.collect(ctx)
	}, nil
}

// pin is lease for a caller that writes nothing but wants what it uses to
// stay. What it alone has kept goes with the next collection.
func (s *Store) pin(ctx context.Context) (context.Context, func(), error) {
	l, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithLabel(labelTemporary, "true"))
	if err != nil {
		return nil, nil, fmt.Errorf("open lease: %w", err)
	}
	return leases.WithLease(ctx, l.ID), func() {
		// The end of the call must not keep its leftovers.
		ctx := context.WithoutCancel(ctx)
		s.deleteLease(ctx, func(ctx context.Context) error { return s.leases.Delete(ctx, l) })
	}, nil
}

// collect removes what no image, container or lease refers to.
func (s *Store) collect(ctx context.Context) {
	if _, err := s.db.GarbageCollect(context.WithoutCancel(ctx)); err != nil {
		s.logger.WarnContext(ctx, "garbage collection failed", "err", err)
		s.removalFailed()
	}
}
