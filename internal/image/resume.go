package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// What a pull has fetched is kept by its lease. When the process is killed, the
// lease stays: the next pull of the same name finds whole layers in the store and
// the beginnings of others, and asks the registry for the rest alone. The lease
// goes with the end of that pull, with a prune, or after a day.

const (
	// labelPull, on a lease, is the name that is pulled.
	labelPull = "porthole.pull"
	// resumable is how long what a killed pull has fetched is kept.
	resumable = 24 * time.Hour
)

// pullLease is lease for a pull of name, which takes over from one that was
// killed.
func (s *Store) pullLease(ctx context.Context, name string) (context.Context, func(), error) {
	l, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithLabel(labelPull, name))
	if err != nil {
		return nil, nil, fmt.Errorf("open lease: %w", err)
	}
	before := s.takeBroken(func(of string) bool { return of == name })
	return leases.WithLease(ctx, l.ID), func() {
		// The end of the call must not keep its leftovers.
		ctx := context.WithoutCancel(ctx)
		s.dropLeases(ctx, append(before, l.ID))
		s.collect(ctx)
	}, nil
}

// scanBroken finds the leases of pulls that were killed, and ends the old ones.
func (s *Store) scanBroken(ctx context.Context) (dropped bool, err error) {
	list, err := s.leases.List(ctx, fmt.Sprintf("labels.%q", labelPull))
	if err != nil {
		return false, fmt.Errorf("list leases: %w", err)
	}
	var old []string
	for _, l := range list {
		if time.Since(l.CreatedAt) > resumable {
			old = append(old, l.ID)
			continue
		}
		s.broken[l.ID] = l.Labels[labelPull]
		if err := s.keepContent(ctx, l); err != nil {
			return false, err
		}
	}
	s.dropLeases(ctx, old)
	if len(s.broken) > 0 {
		s.background.Go(s.expireBroken)
	}
	return len(old) > 0, nil
}

// keepContent leaves in a lease what can be checked when it is used again: layers
// as they were shipped, and the beginnings of such. Unpacked ones may not be on
// the disk, and the documents that refer to them would keep them.
func (s *Store) keepContent(ctx context.Context, l leases.Lease) error {
	resources, err := s.leases.ListResources(ctx, l)
	if err != nil {
		return fmt.Errorf("list what lease %q keeps: %w", l.ID, err)
	}
	for _, r := range resources {
		if r.Type != resourceSnapshot && (r.Type != resourceContent || !s.refersTo(ctx, digest.Digest(r.ID))) {
			continue
		}
		if err := s.leases.DeleteResource(ctx, l, r); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("take %s %q out of lease %q: %w", r.Type, r.ID, l.ID, err)
		}
	}
	return nil
}

// resourceContent is the type of blobs in leases.
const resourceContent = "content"

// refersTo tells whether a blob keeps others, or layers.
func (s *Store) refersTo(ctx context.Context, d digest.Digest) bool {
	info, err := s.content.Info(ctx, d)
	if err != nil {
		return false
	}
	for label := range info.Labels {
		if strings.HasPrefix(label, "containerd.io/gc.ref.") {
			return true
		}
	}
	return false
}

// expireBroken ends the leases that scanBroken has left, when the youngest may be
// too old.
func (s *Store) expireBroken() {
	select {
	case <-time.After(resumable):
		s.pruneBroken(s.in(s.stopped))
	case <-s.stopped.Done():
	}
}

// pruneBroken gives up what killed pulls have fetched.
func (s *Store) pruneBroken(ctx context.Context) {
	if ids := s.takeBroken(func(string) bool { return true }); len(ids) > 0 {
		s.dropLeases(ctx, ids)
		s.collect(ctx)
	}
}

// takeBroken takes the leases of killed pulls of certain names, to be ended.
func (s *Store) takeBroken(of func(name string) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, name := range s.broken {
		if of(name) {
			ids = append(ids, id)
			delete(s.broken, id)
		}
	}
	return ids
}

func (s *Store) dropLeases(ctx context.Context, ids []string) {
	for _, id := range ids {
		if err := s.leases.Delete(ctx, leases.Lease{ID: id}); err != nil && !errdefs.IsNotFound(err) {
			s.logger.WarnContext(ctx, "lease stays", "lease", id, "err", err)
		}
	}
}
