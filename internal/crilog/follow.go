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

// ended tells whether the log will grow no more.
func (w *watcher) ended() bool {
	select {
	case <-w.end:
		return true
	default:
		return false
	}
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
