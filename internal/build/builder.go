package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/cache/remotecache"
	inlineremotecache "github.com/moby/buildkit/cache/remotecache/inline"
	localremotecache "github.com/moby/buildkit/cache/remotecache/local"
	registryremotecache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/imageutil"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/grpc"

	"github.com/portholehq/porthole/internal/build/history"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/image/flush"
	"github.com/portholehq/porthole/internal/steady"
	"github.com/portholehq/porthole/internal/undo"
)

// Options are what a [Builder] is made of.
type Options struct {
	// Root is the builder's directory: databases, logs of steps.
	Root string
	// Store is the image store that bases come from and results go to.
	Store  image.Backend
	Runner step.Runner
	// Tools returns a directory with a shell and tools of its own in bin, for
	// where a step has none; nil: there are none.
	Tools func() (string, error)
	// Hosts finds registries.
	Hosts   docker.RegistryHosts
	Version string
	Logger  *slog.Logger
	// Publish takes events about builds and their images; may be nil.
	Publish func(context.Context, events.Message)
}

// Builder is BuildKit in this process. It is safe for concurrent use.
type Builder struct {
	log        *slog.Logger
	root       string
	publish    func(context.Context, events.Message)
	sessions   *session.Manager
	controller *control.Controller
	server     *grpc.Server
	worker     *buildWorker
	watchers   watchers
	builds     classicBuilds
	states     states
	history    *history.Store
	recordings recordings
	made       madeImages
	flushes    *flush.Group
	debugging  debugSessions
	tools      func() (string, error)
	// What solvers of debugged builds share with the controller's.
	cache          solver.CacheManager
	cacheImporters map[string]remotecache.ResolveCacheImporterFunc
	entitlements   []string

	closers undo.Stack

	trimming  sync.Mutex
	trimmed   time.Time
	untrimmed int // builds since then
}

// Open opens the builder in o.Root. The caller closes it.
func Open(ctx context.Context, o Options) (_ *Builder, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Builder{log: o.Logger, root: o.Root, tools: o.Tools, publish: o.Publish, states: states{dir: filepath.Join(o.Root, "states")}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open builder: %w", err), b.closers.Run())
		}
	}()
	for _, dir := range []string{o.Root, b.logsDir(), b.states.dir, filepath.Join(o.Root, "mounts")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if b.history, err = history.Open(filepath.Join(o.Root, "history")); err != nil {
		return nil, err
	}
	if err := b.history.Recover(); err != nil {
		b.log.Warn("records of builds that a daemon's end has broken off stay as they are", "err", err)
	}
	b.trim()
	if b.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	if b.worker, err = b.openWorker(ctx, o); err != nil {
		return nil, err
	}
	workers := &worker.Controller{}
	if err := workers.Add(b.worker); err != nil {
		return nil, err
	}
	if b.controller, err = b.openController(ctx, o, workers); err != nil {
		return nil, err
	}
	// Errors keep what their clients show and debug by: the place in the
	// Dockerfile, the operation and its files.
	b.server = grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, b.interceptSolve),
		grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
	)
	b.controller.Register(b.server)
	b.closers.AddFunc(b.server.Stop)
	return b, nil
}

// Close ends all builds and closes the databases.
func (b *Builder) Close() error { return b.closers.Run() }

func (b *Builder) logsDir() string { return filepath.Join(b.root, "logs") }

// trim removes old logs of steps and records of builds, now and then.
func (b *Builder) trim() {
	if !b.trimming.TryLock() {
		return
	}
	defer b.trimming.Unlock()
	now := time.Now()
	if b.untrimmed++; now.Sub(b.trimmed) < trimInterval && b.untrimmed < trimBuilds {
		return
	}
	b.trimmed, b.untrimmed = now, 0
	// BuildKit keeps what resolving an image has brought for builds that follow, and one function for each time.
	b.recordings.whenIdle(imageutil.CancelCacheLeases)
	if err := trimLogs(b.logsDir(), steady.Now()); err != nil {
		b.log.Warn("old logs of build steps stay", "err", err)
	}
	if err := b.history.Trim(steady.Now()); err != nil {
		b.log.Warn("old records of builds stay", "err", err)
	}
}

// workerSnapshotter is the label by which buildx knows that what it builds goes into
// an image store that has indexes: only then it asks for several platforms,
// archives, caches elsewhere, pushes and attestations.
const workerSnapshotter = "org.mobyproject.buildkit.worker.snapshotter"

// openRecords opens the database of BuildKit's cache. After a crash of the machine
// it is as old as the image store's are.
func (b *Builder) openRecords(path string, flushes *flush.Group) (*metadata.Store, error) {
	if err := flush.MakeRoom(path); err != nil {
		return nil, err
	}
	md, err := metadata.NewStore(path)
	if err != nil {
		return nil, err
	}
	// BuildKit keeps the database to itself, but for what a transaction tells.
	var db *bbolt.DB
	err = md.DB().View(func(tx *bbolt.Tx) error {
		db = tx.DB()
		return nil
	})
	if err == nil {
		err = flushes.Add(db)
	}
	if err != nil {
		return nil, errors.Join(err, md.Close())
	}
	b.closers.Add(md.Close)
	b.closers.Add(func() error { return flushes.Release(db) }) // one that is held cannot be closed
	return md, nil
}

// openWorker makes BuildKit's worker over the parts of the store.
func (b *Builder) openWorker(ctx context.Context, o Options) (*buildWorker, error) {
	s := o.Store
	if err := dropDamagedRecords(ctx, o.Logger, o.Root, s); err != nil {
		return nil, err
	}
	md, err := b.openRecords(filepath.Join(o.Root, "metadata.db"), s.Flushes)
	if err != nil {
		return nil, err
	}
	b.flushes = s.Flushes
	contents := containerdsnapshot.NewContentStore(s.Content, s.Namespace)
	opt := base.WorkerOpt{
		ID:               "porthole",
		Root:             o.Root,
		Labels:           map[string]string{workerSnapshotter: s.SnapshotterName},
		Platforms:        []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())},
		BuildkitVersion:  client.BuildkitVersion{Package: "github.com/portholehq/porthole", Version: o.Version},
		NetworkProviders: map[pb.NetMode]network.Provider{},
		Executor:         newExecutor(b, o),
		Snapshotter:      containerdsnapshot.NewSnapshotter(s.SnapshotterName, s.Snapshotter, s.Namespace, nil),
		ContentStore:     contents,
		Applier:          apply.NewFileSystemApplier(contents),
		Differ:           walking.NewWalkingDiff(contents),
		ImageStore:       namespacedImages{s.Images, s.Namespace},
		RegistryHosts:    o.Hosts,
		LeaseManager:     leaseutil.WithNamespace(s.Leases, s.Namespace),
		GarbageCollect:   s.DB.GarbageCollect,
		MetadataStore:    md,
		MountPoolRoot:    filepath.Join(o.Root, "mounts"),
		GCPolicy:         gcPolicy(),
	}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, err
	}
	writer, err := containerimage.NewImageWriter(containerimage.WriterOpt{
		Snapshotter: opt.Snapshotter, ContentStore: contents, Applier: opt.Applier, Differ: opt.Differ,
	})
	if err != nil {
		return nil, err
	}
	return &buildWorker{Worker: w, store: s, images: writer, watchers: &b.watchers, dirs: new(cacheDirs), recordings: &b.recordings, tellImage: b.tellImage}, nil
}

// gcPolicy bounds what the cache keeps: what nobody has used for a month goes,
// and beyond 20 GB the least recently used.
func gcPolicy() []client.PruneInfo {
	const (
		month = 30 * 24 * 60 * 60 * 1e9
		most  = 20 << 30
	)
	return []client.PruneInfo{
		{Filter: []string{"type==source.local,type==exec.cachemount,type==source.git.checkout"}, KeepDuration: month / 15, MaxUsedSpace: most / 4},
		{All: true, KeepDuration: month, MaxUsedSpace: most},
		{All: true, MaxUsedSpace: most},
	}
}

// mostBuildKitRecords is how many of BuildKit's own records are kept beside ours,
// with provenance and progress of each, for clients that ask BuildKit.
const mostBuildKitRecords = 50

func (b *Builder) openController(ctx context.Context, o Options, workers *worker.Controller) (*control.Controller, error) {
	gatewayFrontend, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	dockerfiles := recordedFrontend{
		Frontend: forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build), recordings: &b.recordings,
	}
	for _, name := range []string{"cache.db", "history.db"} {
		if err := dropDamaged(o.Logger, filepath.Join(o.Root, name)); err != nil {
			return nil, err
		}
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(o.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	b.closers.Add(cache.Close)
	records, err := boltutil.SafeOpen(filepath.Join(o.Root, "history.db"), 0o600, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
	})
	if err != nil {
		return nil, err
	}
	b.closers.Add(records.Close)
	lease, contents := b.worker.LeaseManager(), b.worker.ContentStore()
	most := int64(mostBuildKitRecords)
	stopped, stop := context.WithCancel(context.Background())
	b.closers.AddFunc(stop)
	b.cache = solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers))
	b.cacheImporters = map[string]remotecache.ResolveCacheImporterFunc{
		"registry": registryremotecache.ResolveCacheImporterFunc(b.sessions, contents, o.Hosts),
		"local":    localremotecache.ResolveCacheImporterFunc(b.sessions),
	}
	b.entitlements = []string{string(entitlements.EntitlementNetworkHost)}
	return control.NewController(control.Opt{
		SessionManager:   b.sessions,
		WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": stateFrontend{dockerfiles, b},
			"gateway.v0": stateFrontend{builtinSyntax{
				Frontend: recordedFrontend{Frontend: gatewayFrontend, recordings: &b.recordings}, dockerfiles: dockerfiles,
			}, b},
			frontendClassic: stateFrontend{recordedFrontend{
				Frontend: &steppingFrontend{b: b, workers: workers.Infos(), whole: dockerfiles}, recordings: &b.recordings,
			}, b},
		},
		CacheManager: b.cache,
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"registry": registryremotecache.ResolveCacheExporterFunc(b.sessions, o.Hosts),
			"local":    localremotecache.ResolveCacheExporterFunc(b.sessions),
			"inline":   inlineremotecache.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: b.cacheImporters,

		Entitlements:   b.entitlements,
		HistoryDB:      records,
		HistoryConfig:  &config.HistoryConfig{MaxEntries: &most, MaxAge: config.Duration{Duration: history.Keep}},
		CacheStore:     cache,
		LeaseManager:   lease,
		ContentStore:   contents,
		GarbageCollect: b.worker.GarbageCollect,
		GracefulStop:   stopped.Done(),
	})
}

// ServeGRPC serves BuildKit's API on a connection that was upgraded to h2c,
// until its end.
func (b *Builder) ServeGRPC(ctx context.Context, conn net.Conn) {
	l := &single{conn: conn, closed: make(chan struct{})}
	ended := sync.OnceFunc(func() { close(l.closed) })
	srv := &http.Server{
		Handler:     b.server,
		Protocols:   new(http.Protocols),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				ended()
			}
		},
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	_ = srv.Serve(l) // ends with net.ErrClosed
}

// single is a listener with one connection. It is for one goroutine.
type single struct {
	conn   net.Conn // nil once it was accepted
	closed chan struct{}
}

// Accept returns the connection, and the next time net.ErrClosed after that one's end.
func (l *single) Accept() (conn net.Conn, err error) {
	if conn, l.conn = l.conn, nil; conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
func (l *single) Close() error   { return nil }

// ServeSession serves a client's session, by which builds get its files and
// secrets, on an upgraded connection until its end. header is the request's.
func (b *Builder) ServeSession(ctx context.Context, conn net.Conn, header map[string][]string) error {
	return b.sessions.HandleConn(ctx, conn, header)
}

var _ io.Closer = (*Builder)(nil)
