package crilog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often the log is looked at where the kernel gives no more
// inotify instances (fs.inotify.max_user_instances, 128 by default).
const pollEvery = 100 * time.Millisecond

// follow hands out what there is, and then what comes.
func (r *reader) follow(ctx context.Context, ended <-chan struct{}) error {
	f := &follower{reader: r, ended: ended}
	defer f.unwatch()
	on, changed := r.liveState()
	if err := f.watchUnless(ctx, on); err != nil {
		return err
	}
	if err := r.locate(ctx); err != nil {
		return err
	}
	r.forgetEnd()
	for {
		if last, err := f.round(ctx, on, changed); err != nil || last {
			return err
		}
		if err := f.wait(ctx, on, changed); err != nil {
			return err
		}
		on, changed = r.liveState()
		if err := f.watchUnless(ctx, on); err != nil {
			return err
		}
	}
}

// follower is a reader that goes on.
type follower struct {
	*reader
	ended   <-chan struct{}
	watcher *watcher         // nil while all comes from opts.Live
	settled <-chan time.Time // the end of waiting for the end of opts.Live
}

// round hands out what there is. Whether batches come was asked before it.
func (f *follower) round(ctx context.Context, on bool, changed <-chan struct{}) (last bool, err error) {
	select {
	case <-f.ended: // asked before reading, so that nothing comes after
		last = true
	default:
	}
	if err := f.learnRuns(); err != nil {
		return false, err
	}
	if err := f.readLive(ctx); err != nil {
		return false, err
	}
	if last && on && f.line < f.last {
		if f.settled == nil {
			f.settled = time.After(settleMost)
		}
		select {
		case <-changed:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-f.settled:
			on, f.filesOnly = false, true
		}
	}
	if !on {
		err := f.readAll(ctx)
		if errors.Is(err, errBatchesCome) {
			// They began to come after it was asked whether they do; wait finds that.
			return false, f.flush(false)
		}
		if err != nil {
			return false, err
		}
	}
	last = last || f.line >= f.last
	return last, f.flush(last)
}

// wait returns nil when the log may have grown or has ended.
func (f *follower) wait(ctx context.Context, on bool, changed <-chan struct{}) error {
	if !on {
		select {
		case <-changed:
			return nil
		default:
			return f.watcher.wait()
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ended:
	case <-changed:
	}
	return nil
}

// watchUnless has the files watched, or no more.
func (f *follower) watchUnless(ctx context.Context, on bool) error {
	if on {
		f.unwatch()
		return nil
	}
	if f.watcher != nil {
		return nil
	}
	w, err := watch(ctx, f.dir, f.ended)
	if err != nil {
		return fmt.Errorf("follow log in %q: %w", f.dir.Name(), err)
	}
	f.watcher = w
	return nil
}

func (f *follower) unwatch() {
	if f.watcher != nil {
		f.watcher.close()
		f.watcher = nil
	}
}

// watcher waits until something was written to a directory.
type watcher struct {
	ctx  context.Context
	end  <-chan struct{}
	file *os.File // nil: poll
	buf  [4096]byte

	stop func() bool
	done chan struct{}
	wg   sync.WaitGroup
}

// watch starts to watch dir. What happens from now on makes wait return.
func watch(ctx context.Context, dir *os.File, end <-chan struct{}) (*watcher, error) {
	w := &watcher{ctx: ctx, end: end, done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err == unix.EMFILE {
		return w, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	// By descriptor, so that it is the same directory whatever happens to its
	// name.
	name := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil {
		unix.Close(fd)
		if err == unix.ENOSPC { // max_user_watches
			return w, nil
		}
		return nil, &os.PathError{Op: "watch", Path: dir.Name(), Err: err}
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	wake := func() { w.file.SetReadDeadline(time.Unix(1, 0)) }
	w.stop = context.AfterFunc(ctx, wake)
	if end != nil {
		w.wg.Go(func() {
			select {
			case <-end:
				wake()
			case <-w.done:
			}
		})
	}
	return w, nil
}

// wait returns nil when the log may have grown or has ended, and the cause of
// the context's end.
func (w *watcher) wait() error {
	if w.file == nil {
		select {
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		case <-w.end:
		case <-time.After(pollEvery):
		}
		return nil
	}
	_, err := w.file.Read(w.buf[:])
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("follow log: %w", err)
	}
	return nil
}

func (w *watcher) close() {
	close(w.done)
	if w.stop != nil {
		w.stop()
	}
	w.wg.Wait()
	if w.file != nil {
		w.file.Close()
	}
}
