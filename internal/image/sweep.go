package image

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/retry"
)

// sweepLater looks a little later whether files are left that nothing refers to, and removes them: containerd's
// collection gives up at the first that it cannot remove, and does not look for them again before something else of the
// kind is removed.
func (s *Store) sweepLater() {
	if !s.sweeping.CompareAndSwap(false, true) {
		return
	}
	s.later(func() {
		retry.Until(s.stopped.Done(), s.sweep)
		s.sweeping.Store(false)
		if s.leftovers() { // of the last moment
			s.sweepLater()
		}
	})
}

// later does something in the background, unless the store is being closed: the next Open finds what is left then.
func (s *Store) later(f func()) {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.stopped.Err() == nil {
		s.background.Go(f)
	}
}

// leftovers tells that something may be left.
func (s *Store) leftovers() bool {
	s.mu.Lock()
	staying := len(s.staying) > 0
	s.mu.Unlock()
	return staying || s.untrashed.Load() || s.uncollected()
}

// uncollected tells that something may be left that the databases tell.
func (s *Store) uncollected() bool {
	unclean, _ := s.flushed.state()
	return unclean || s.failing.Load()
}

var errLeft = errors.New("something is left yet")

// sweep removes what is left, if there is anything. An error means that it is to be tried again.
func (s *Store) sweep() error {
	if _, cleaning := s.flushed.state(); cleaning {
		return errLeft // or not, once that is done
	}
	ctx := s.in(context.Background())
	err := s.removeStaying(ctx)
	if s.untrashed.Load() {
		err = errors.Join(err, s.emptyTrashNow())
	}
	if s.uncollected() {
		err = errors.Join(err, s.collectAgain(ctx))
	}
	if err == nil && s.leftovers() {
		return errLeft
	}
	return err
}

func (s *Store) collectAgain(ctx context.Context) error {
	s.failing.Store(false)
	err := s.markDirty(ctx)
	if err == nil {
		_, err = s.db.GarbageCollect(ctx)
	}
	if err != nil {
		s.failing.Store(true)
	}
	return err
}

// removalFailed is called when a file could not be removed, or the record of one.
func (s *Store) removalFailed() {
	s.failing.Store(true)
	s.sweepLater()
}

// deleteLease ends a lease, later if the disk does not take that now.
func (s *Store) deleteLease(ctx context.Context, end func(context.Context) error) {
	try := func(ctx context.Context) error {
		if err := end(ctx); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return nil
	}
	err := try(ctx)
	if err == nil {
		return
	}
	s.logger.WarnContext(ctx, "a lease stays for now", "err", err)
	s.later(func() {
		retry.Until(s.stopped.Done(), func() error { return try(s.in(context.Background())) })
		s.removalFailed()
	})
}
