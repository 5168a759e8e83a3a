package image

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/image/document"
)

// transactor is transact or transactLater.
type transactor func(ctx context.Context, fn func(context.Context) error) error

// transact runs fn in one transaction of the metadata database: all that fn
// does with the context that it gets is committed at once, and on disk then with
// all that was committed before.
func (s *Store) transact(ctx context.Context, fn func(context.Context) error) error {
	if err := s.transactLater(ctx, fn); err != nil {
		return err
	}
	return s.flushes.Flush()
}

// transactLater is transact for a build and a prune, which wait for the disk at their end.
func (s *Store) transactLater(ctx context.Context, fn func(context.Context) error) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := fn(boltutil.WithTransaction(ctx, tx)); err != nil {
			return err
		}
		return failpoint.Hit("image.commit")
	})
	if err == nil {
		failpoint.Pass("image.committed")
	}
	return err
}

// setName makes name stand for target. An image that loses its last name by
// that stays as a nameless one; its old name is returned by displaced.
func (s *Store) setName(ctx context.Context, name string, target ocispec.Descriptor) (displaced *contents, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.transact(ctx, func(ctx context.Context) error {
		displaced, err = s.setNameIn(ctx, name, target)
		return err
	})
	return displaced, err
}

func (s *Store) setNameIn(ctx context.Context, name string, target ocispec.Descriptor) (displaced *contents, err error) {
	target.Annotations = nil // they name the image in its archive
	old, err := s.images.Get(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		_, err = s.images.Create(ctx, images.Image{Name: name, Target: target})
		if err != nil {
			return nil, fmt.Errorf("name image %q: %w", name, err)
		}
	case err != nil:
		return nil, fmt.Errorf("look up image %q: %w", name, err)
	default:
		if _, err := s.images.Update(ctx, images.Image{Name: name, Target: target}); err != nil {
			return nil, fmt.Errorf("name image %q: %w", name, err)
		}
		if old.Target.Digest != target.Digest {
			displaced = s.resolved[old.Target.Digest]
			if err := s.keepNameless(ctx, old.Target); err != nil {
				return nil, err
			}
		}
	}
	if isDangling(name) {
		return displaced, nil
	}
	// It has a name now.
	if err := s.images.Delete(ctx, danglingName(target.Digest)); err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("drop nameless image: %w", err)
	}
	return displaced, nil
}

// keepNameless makes a nameless record for a target that no record has any
// more.
func (s *Store) keepNameless(ctx context.Context, target ocispec.Descriptor) error {
	others, err := s.images.List(ctx, fmt.Sprintf("target.digest==%s", target.Digest))
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	if len(others) > 0 {
		return nil
	}
	if _, err := s.images.Create(ctx, images.Image{Name: danglingName(target.Digest), Target: target}); err != nil {
		return fmt.Errorf("keep nameless image: %w", err)
	}
	return nil
}

// deleteRecords removes the records in one transaction. Writable layers keep
// the layers that they need.
func (s *Store) deleteRecords(ctx context.Context, records []images.Image) error {
	return s.deleteRecordsBy(ctx, s.transact, records)
}

func (s *Store) deleteRecordsBy(ctx context.Context, transact transactor, records []images.Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []*contents
	err := transact(ctx, func(ctx context.Context) error {
		lost = lost[:0]
		for _, r := range records {
			if err := s.images.Delete(ctx, r.Name); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("delete image %q: %w", r.Name, err)
			}
		}
		for _, r := range records {
			left, err := s.images.List(ctx, fmt.Sprintf("target.digest==%s", r.Target.Digest))
			if err != nil {
				return fmt.Errorf("list images: %w", err)
			}
			c := s.resolved[r.Target.Digest]
			if len(left) > 0 || c == nil {
				continue
			}
			lost = append(lost, c)
			if err := s.holdUsed(ctx, c.snapshot); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range lost {
		s.noteHeld(c.snapshot)
		delete(s.resolved, c.target.Digest)
		if s.rootfs[c.snapshot] == 0 {
			delete(s.lowers, c.snapshot)
		}
	}
	return nil
}

// writeBlob writes a small blob whose digest is known.
func (s *Store) writeBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	err := content.WriteBlob(ctx, s.content, "write-"+desc.Digest.String(), bytes.NewReader(data), desc)
	if err != nil {
		return fmt.Errorf("write blob %s: %w", desc.Digest, err)
	}
	return nil
}

// labelContents sets the labels by which the garbage collection goes from a
// target to all that belongs to it.
func (s *Store) labelContents(ctx context.Context, target ocispec.Descriptor, c *contents) error {
	labels := map[digest.Digest]map[string]string{}
	if err := s.gcLabels(ctx, target, labels, 0); err != nil {
		return err
	}
	if c.snapshot != "" {
		add(labels, c.config.Digest, labelSnapshot, c.snapshot)
	}
	for dgst, set := range labels {
		info := content.Info{Digest: dgst, Labels: set}
		var fields []string
		for k := range set {
			fields = append(fields, "labels."+k)
		}
		if _, err := s.content.Update(ctx, info, fields...); err != nil {
			return fmt.Errorf("label blob %s: %w", dgst, err)
		}
	}
	return nil
}

func add(labels map[digest.Digest]map[string]string, of digest.Digest, key, value string) {
	if labels[of] == nil {
		labels[of] = map[string]string{}
	}
	labels[of][key] = value
}

// gcLabels collects the reference labels of an index or manifest and what is
// below it. Entries of an index that are not here have none.
func (s *Store) gcLabels(ctx context.Context, desc ocispec.Descriptor, labels map[digest.Digest]map[string]string, depth int) error {
	if depth > maxIndexDepth || labels[desc.Digest] != nil {
		return nil
	}
	kind, children, err := s.children(ctx, desc)
	if err != nil {
		return err
	}
	for i, child := range children {
		add(labels, desc.Digest, "containerd.io/gc.ref.content."+strconv.Itoa(i), child.Digest.String())
		if kind != document.Index {
			continue
		}
		err := s.gcLabels(ctx, child, labels, depth+1)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// leaseSnapshot adds a snapshot, which need not exist yet, to the lease of ctx.
func (s *Store) leaseSnapshot(ctx context.Context, key string) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return nil
	}
	err := s.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: key, Type: resourceSnapshot})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("lease layer %q: %w", key, err)
	}
	return nil
}
