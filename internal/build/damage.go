package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"go.etcd.io/bbolt"

	"github.com/portholehq/porthole/internal/boltcheck"
	"github.com/portholehq/porthole/internal/image"
)

// flatLeases are those by which BuildKit's cache holds its records' layers and blobs.
const flatLeases = `labels."containerd.io/gc.flat"`

// dropDamaged puts a database of BuildKit's that cannot be read out of the way, so that it
// begins anew. BuildKit never flushes that of its cache: when the machine stops, it may be
// anything, and bbolt would panic at each start of the daemon. What it had is only what
// builds need not do again. One that was put away before is replaced.
func dropDamaged(log *slog.Logger, path string) error {
	err := boltcheck.Check(path)
	if !errors.Is(err, boltcheck.ErrDamaged) {
		return err
	}
	aside := path + ".damaged"
	log.Error("a database of the build cache is damaged, as when the machine has stopped: the cache begins anew", "file", path, "kept", aside, "err", err)
	return os.Rename(path, aside)
}

// dropDamagedRecords does the same with what tells which layers the cache has. Nobody
// would find those again, so they go before it, and the results that name them.
func dropDamagedRecords(ctx context.Context, log *slog.Logger, root string, store image.Backend) error {
	path := filepath.Join(root, "metadata.db")
	if err := boltcheck.Check(path); !errors.Is(err, boltcheck.ErrDamaged) {
		return err
	}
	ctx = namespaces.WithNamespace(ctx, store.Namespace)
	// There may be thousands: one transaction, which waits for the disk once.
	err := store.DB.Update(func(tx *bbolt.Tx) error { return dropLeases(boltutil.WithTransaction(ctx, tx), store.Leases) })
	if err != nil {
		return fmt.Errorf("drop a damaged cache: %w", err)
	}
	if err := os.Remove(filepath.Join(root, "cache.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := dropDamaged(log, path); err != nil {
		return err
	}
	if _, err := store.DB.GarbageCollect(ctx); err != nil {
		log.Warn("layers of a damaged cache stay for now", "err", err)
	}
	return nil
}

func dropLeases(ctx context.Context, all leases.Manager) error {
	list, err := all.List(ctx, flatLeases)
	if err != nil {
		return err
	}
	for _, l := range list {
		if err := all.Delete(ctx, l); err != nil {
			return err
		}
	}
	return nil
}
