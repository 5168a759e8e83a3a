package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/ledger"
)

// Claims tells what each file of the store belongs to; paths are below its root.
//
// A layer or blob that several images have is on one claim with all of them as
// users. What no image has is a container's, if it keeps the layers of an image
// that is gone, a running operation's or one's that was broken off, or else the
// builder's. Of writable layers it is said which container made them, known or
// not: that is for the caller to judge.
func (s *Store) Claims(ctx context.Context) ([]ledger.Claim, error) {
	return s.claims(ctx, time.Now().Add(-settling))
}

// settling is how long after its making a file may not be in the database yet:
// layers and blobs get their place on the disk before that is committed.
const settling = time.Minute

// claims is Claims that leaves out what the database does not know and has been
// where it is since before settled.
func (s *Store) claims(ctx context.Context, settled time.Time) ([]ledger.Claim, error) {
	c := claiming{store: s, ctx: s.in(ctx), layers: map[string][]string{}, blobs: map[digest.Digest][]string{}}
	fresh := func() error { return c.fresh(settled) }
	// Of two claims on a path the later one counts.
	for _, step := range []func() error{fresh, c.images, c.operations, c.snapshots, c.content, c.rootfs} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("tell whose the files of the image store are: %w", err)
		}
	}
	c.fixed()
	return c.list, nil
}

type claiming struct {
	store *Store
	ctx   context.Context //nolint:containedctx // lives as long as one call
	list  []ledger.Claim
	names map[string]string // of images by ID
	// layers and blobs have the IDs of the images that use them.
	layers map[string][]string
	blobs  map[digest.Digest][]string
	// busy are the resources of leases that a running operation holds.
	busy map[leases.Resource]bool
	// builder tells that a builder works in the store.
	builder bool
}

func (c *claiming) add(claim ledger.Claim) { c.list = append(c.list, claim) }

// images finds out which layers and blobs each image has.
func (c *claiming) images() error {
	entries, err := c.store.catalog(c.ctx)
	if err != nil {
		return err
	}
	c.names = map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		e := entries[id]
		if names := e.names(); len(names) > 0 {
			c.names[id] = names[0]
		}
		seen := map[digest.Digest]bool{}
		for _, r := range e.records {
			if err := c.blob(id, r.Target, seen, 0); err != nil {
				return err
			}
		}
		if e.contents.snapshot == "" {
			continue
		}
		keys, err := c.store.snapshotKeys(c.ctx, e.contents.snapshot)
		if errdefs.IsNotFound(err) {
			continue // the image goes right now
		}
		if err != nil {
			return err
		}
		for _, key := range keys {
			c.layers[key] = append(c.layers[key], id)
		}
	}
	return nil
}

// blob notes that an image has a blob, and all that this refers to.
func (c *claiming) blob(id string, desc ocispec.Descriptor, seen map[digest.Digest]bool, depth int) error {
	if depth > maxIndexDepth || seen[desc.Digest] {
		return nil
	}
	seen[desc.Digest] = true
	c.blobs[desc.Digest] = append(c.blobs[desc.Digest], id)
	if depth > 0 && !c.isDocument(desc) {
		return nil
	}
	_, children, err := c.store.children(c.ctx, desc)
	if errdefs.IsNotFound(err) {
		return nil // of another platform
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := c.blob(id, child, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// isDocument tells manifests and indexes from configurations and layers, which
// refer to nothing.
func (c *claiming) isDocument(desc ocispec.Descriptor) bool {
	return strings.Contains(desc.MediaType, "manifest") || strings.Contains(desc.MediaType, "index")
}

// operations notes what belongs to what is being done, or was begun.
func (c *claiming) operations() error {
	list, err := c.store.leases.List(c.ctx)
	if err != nil {
		return err
	}
	c.busy = map[leases.Resource]bool{}
	for _, l := range list {
		_, temporary := l.Labels[labelTemporary]
		if _, pull := l.Labels[labelPull]; !pull && !temporary {
			c.builder = c.builder || l.ID != holdingLease
			continue
		}
		resources, err := c.store.leases.ListResources(c.ctx, l)
		if errdefs.IsNotFound(err) {
			continue // it has just ended
		}
		if err != nil {
			return err
		}
		for _, r := range resources {
			c.busy[r] = true
		}
	}
	return nil
}

// users completes the claim on what images have in common, or one of them has.
func (c *claiming) users(claim ledger.Claim, ids []string) ledger.Claim {
	claim.Owner = ledger.Image
	if len(ids) == 1 {
		claim.ID, claim.Name = ids[0], c.names[ids[0]]
		return claim
	}
	claim.Part = "shared " + claim.Part
	for _, id := range ids {
		user := c.names[id]
		if user == "" {
			user = shortID(id)
		}
		claim.Users = append(claim.Users, user)
	}
	return claim
}

// rest completes the claim on what no image, container or operation has: it is
// the builder's, or what the next garbage collection takes.
func (c *claiming) rest(claim ledger.Claim) ledger.Claim {
	claim.Owner, claim.Part = ledger.Unfinished, "garbage"
	if c.builder {
		claim.Owner, claim.Part = ledger.BuildCache, ""
	}
	return claim
}

// fresh claims what has come since a moment, so that it is nobody's prey until
// the database has it.
func (c *claiming) fresh(since time.Time) error {
	for dir, part := range map[string]string{
		"content/blobs/" + string(digest.Canonical): "packed layers", "layers/overlay/snapshots": "unpacked layers",
	} {
		err := c.each(dir, func(name string) {
			var st unix.Stat_t
			err := unix.Lstat(filepath.Join(c.store.root, dir, name), &st)
			if err == nil && time.Unix(st.Ctim.Unix()).After(since) {
				c.add(ledger.Claim{Path: path.Join(dir, name), Owner: ledger.Unfinished, Part: part})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *claiming) snapshots() error {
	held := c.heldBy()
	return c.store.snapshot.Walk(c.ctx, func(ctx context.Context, info snapshots.Info) error {
		upper := info.Labels[labelUpper]
		rel, err := filepath.Rel(c.store.root, filepath.Dir(upper))
		if upper == "" || err != nil {
			return err
		}
		claim := ledger.Claim{Path: filepath.ToSlash(rel), Part: "layers"}
		ids, holders := c.layers[info.Name], held[info.Name]
		switch {
		case len(ids) > 0:
			claim = c.users(claim, ids)
		case len(holders) > 0:
			claim.Owner, claim.Part = ledger.Container, "layers of a removed image"
			if claim.ID = holders[0]; len(holders) > 1 {
				claim.ID, claim.Users = "", holders
			}
		case c.busy[leases.Resource{ID: info.Name, Type: resourceSnapshot}] || strings.HasPrefix(info.Name, unpackPrefix):
			claim.Owner, claim.Part = ledger.Unfinished, "unpacked layers"
		default:
			claim = c.rest(claim)
		}
		c.add(claim)
		if info.Kind != snapshots.KindCommitted {
			return nil
		}
		usage, err := c.store.snapshot.Usage(ctx, info.Name)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		claim.Path, claim.Disk = path.Join(claim.Path, filepath.Base(upper)), usage.Size
		c.add(claim)
		return nil
	})
}

// heldBy tells which containers are on a snapshot or one of those above it.
func (c *claiming) heldBy() map[string][]string {
	held := map[string][]string{}
	ids, err := c.store.RootFSList(c.ctx)
	if err != nil {
		return held
	}
	for _, id := range ids {
		bases, _ := c.store.mounted(id) // as far as they can be read
		if key, err := c.store.base(id); err == nil {
			bases = append(bases, key)
		}
		for _, key := range bases {
			if key == "" || len(c.layers[key]) > 0 {
				continue
			}
			keys, err := c.store.snapshotKeys(c.ctx, key)
			if err != nil {
				continue
			}
			for _, k := range keys {
				if !slices.Contains(held[k], id) {
					held[k] = append(held[k], id)
				}
			}
		}
	}
	return held
}

// historySuffix ends the namespace in which BuildKit has the records of builds.
const historySuffix = "_history"

func (c *claiming) content() error {
	records := namespaces.WithNamespace(c.ctx, namespace+historySuffix)
	err := c.store.content.Walk(records, func(info content.Info) error {
		d := info.Digest
		c.add(ledger.Claim{Path: path.Join("content", "blobs", string(d.Algorithm()), d.Encoded()), Owner: ledger.BuildCache, Part: "records of builds"})
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.content.Walk(c.ctx, func(info content.Info) error {
		d := info.Digest
		claim := ledger.Claim{Path: path.Join("content", "blobs", string(d.Algorithm()), d.Encoded()), Part: "packed layers"}
		switch ids := c.blobs[d]; {
		case len(ids) > 0:
			claim = c.users(claim, ids)
		case c.busy[leases.Resource{ID: d.String(), Type: resourceContent}]:
			claim.Owner = ledger.Unfinished
		default:
			claim = c.rest(claim)
		}
		c.add(claim)
		return nil
	})
	if err != nil {
		return err
	}
	return c.each("content/ingest", func(name string) {
		c.add(ledger.Claim{Path: path.Join("content/ingest", name), Owner: ledger.Unfinished, Part: "packed layers"})
	})
}

func (c *claiming) rootfs() error {
	return c.each("layers/rootfs", func(name string) {
		claim := ledger.Claim{Path: path.Join("layers/rootfs", name), Owner: ledger.Container, ID: name, Part: "layer"}
		if strings.HasPrefix(name, unfinished) {
			claim.Owner, claim.ID = ledger.Unfinished, ""
		}
		c.add(claim)
	})
}

// each calls fn for what is in a directory of the store.
func (c *claiming) each(dir string, fn func(name string)) error {
	entries, err := os.ReadDir(filepath.Join(c.store.root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		fn(e.Name())
	}
	return nil
}

// fixed claims what every store has.
func (c *claiming) fixed() {
	for _, f := range []ledger.Claim{
		{Path: "metadata.db", Owner: ledger.Database, Part: "images"},
		{Path: "layers/overlay/metadata.db", Owner: ledger.Database, Part: "layers"},
		{Path: "flushed", Owner: ledger.Database, Part: "last flush"},
		{Path: "unclean", Owner: ledger.Daemon, Part: "files"},
		{Path: "layers/trash", Owner: ledger.Removing},
	} {
		c.add(f)
	}
	for _, dir := range []string{
		"content", "content/blobs", "content/blobs/" + string(digest.Canonical), "content/ingest",
		"layers", "layers/overlay", "layers/overlay/snapshots", "layers/rootfs", "layers/empty",
	} {
		c.add(ledger.Structure(dir))
	}
	// A snapshot on its way out: the snapshotter renames before it removes.
	_ = c.each("layers/overlay/snapshots", func(name string) {
		if strings.HasPrefix(name, "rm-") {
			c.add(ledger.Claim{Path: path.Join("layers/overlay/snapshots", name), Owner: ledger.Removing})
		}
		if strings.HasPrefix(name, "new-") {
			c.add(ledger.Claim{Path: path.Join("layers/overlay/snapshots", name), Owner: ledger.Unfinished, Part: "unpacked layers"})
		}
	})
}
