package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// OOMWatcher tells of processes that the kernel kills for want of memory, in any
// number of groups, by one goroutine and without asking again and again.
//
// On v1 the kernel wakes an eventfd when a group runs out of memory, which is
// before it has chosen and counted a victim; on v2 it tells of changes to
// memory.events by inotify, of which there is one for all groups. Either is taken
// as no more than a hint to read the counter of [Group.OOMKills].
//
// Kills that are not due to a group's limit, because the machine itself is out of
// memory, wake nobody on v1. They are in the counter all the same.
type OOMWatcher struct {
	tree   *Tree
	epoll  *os.File // readable when one of the watches is
	notify int      // inotify, or -1
	done   chan struct{}

	mu      sync.Mutex
	closed  bool
	watches map[int32]*oomWatch // by eventfd on v1, by inotify's watch on v2
}

type oomWatch struct {
	group *Group
	seen  uint64
	tell  func(kills uint64)

	// After a hint the counter is read again, at times further and further apart,
	// until the kernel must have killed what it meant to kill.
	delay time.Duration
	next  time.Time // zero: nothing to be done
}

// After the last hint the counter is read at 1, 3, 7 ms and so on.
const (
	oomFirstDelay = time.Millisecond
	oomLastDelay  = 2 * time.Second
)

// WatchOOM starts a watcher. Close ends it.
func (t *Tree) WatchOOM() (*OOMWatcher, error) {
	w := &OOMWatcher{tree: t, notify: -1, done: make(chan struct{}), watches: map[int32]*oomWatch{}}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch for OOM kills: %w", os.NewSyscallError("epoll_create1", err))
	}
	// A descriptor that does not block is waited for without keeping a thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch for OOM kills: %w", os.NewSyscallError("fcntl", err))
	}
	w.epoll = os.NewFile(uintptr(fd), "epoll")
	if t.mode == V2 {
		if err := w.openNotify(fd); err != nil {
			w.epoll.Close()
			return nil, fmt.Errorf("watch for OOM kills: %w", err)
		}
	}
	go w.run()
	return w, nil
}

func (w *OOMWatcher) openNotify(epoll int) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	if err := epollAdd(epoll, fd); err != nil {
		unix.Close(fd)
		return err
	}
	w.notify = fd
	return nil
}

func epollAdd(epoll, fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event))
}

// Close ends the watcher and all its watches.
func (w *OOMWatcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	for id := range w.watches {
		w.drop(id)
	}
	w.mu.Unlock()
	err := w.epoll.Close() // waits for those who use it, who may wait for mu
	<-w.done
	if w.notify >= 0 {
		err = errors.Join(err, unix.Close(w.notify))
	}
	return err
}

// Watch has tell called with the group's count of OOM kills whenever that has
// grown, and once at the beginning if it is not 0. Calls come one after the
// other; they must be short and must not call the watcher. Stop ends the watch:
// tell is not called after it has returned. A group has one watch at a time.
//
// A group that does not exist (any more), or a host without a memory controller,
// has nothing to tell and is no error.
func (w *OOMWatcher) Watch(g *Group, tell func(kills uint64)) (stop func(), err error) {
	if g.err != nil {
		return nil, g.err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, fmt.Errorf("watch cgroup %q for OOM kills: %w", g.path, fs.ErrClosed)
	}
	id, err := w.add(g)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), id < 0 && err == nil:
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("watch cgroup %q for OOM kills: %w", g.path, err)
	}
	watch := &oomWatch{group: g, tell: tell}
	w.watches[id] = watch
	watch.check()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.watches[id] == watch {
			w.drop(id)
		}
	}, nil
}

// add has the kernel tell of a group. The result is negative if there is nothing
// that it could tell.
func (w *OOMWatcher) add(g *Group) (int32, error) {
	if w.tree.mode == V2 {
		wd, err := unix.InotifyAddWatch(w.notify, filepath.Join(g.Dir(App), "memory.events"), unix.IN_MODIFY)
		return int32(wd), os.NewSyscallError("inotify_add_watch", err)
	}
	root, ok := w.tree.controller("memory")
	if !ok {
		return -1, nil
	}
	fd, err := oomEvent(g.dirV1(root, App))
	if err != nil {
		return -1, err
	}
	// The kernel drops the registration when the eventfd is closed.
	err = w.epollDo(func(epoll int) error { return epollAdd(epoll, fd) })
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return int32(fd), nil
}

// oomEvent returns an eventfd that counts how often a v1 group ran out of memory.
func oomEvent(dir string) (int, error) {
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return -1, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, os.NewSyscallError("eventfd", err)
	}
	err = writeFile(filepath.Join(dir, "cgroup.event_control"), strconv.Itoa(fd)+" "+strconv.Itoa(int(control.Fd())))
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// drop forgets a watch. mu is held.
func (w *OOMWatcher) drop(id int32) {
	delete(w.watches, id)
	if w.tree.mode == V2 {
		// Fails if the group is gone, and the watch with it.
		_, _ = unix.InotifyRmWatch(w.notify, uint32(id))
		return
	}
	// Closing alone would not do while a process that is being forked has a copy.
	_ = w.epollDo(func(epoll int) error { return unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, int(id), nil) })
	unix.Close(int(id))
}

func (w *OOMWatcher) epollDo(f func(fd int) error) error {
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// run waits for hints and for the times to read counters again.
func (w *OOMWatcher) run() {
	defer close(w.done)
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return // closed already
	}
	for {
		err := conn.Read(func(fd uintptr) bool { return w.hints(int(fd)) })
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		if w.recheck() != nil {
			return // closed
		}
	}
}

// hints takes all hints there are, and tells whether there were any.
func (w *OOMWatcher) hints(epoll int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	var events [16]unix.EpollEvent
	found := false
	for {
		n, err := unix.EpollWait(epoll, events[:], 0)
		if n <= 0 && !errors.Is(err, unix.EINTR) {
			return found
		}
		for _, ev := range events[:max(n, 0)] {
			found = true
			if int(ev.Fd) == w.notify {
				w.takeNotices()
				continue
			}
			w.hint(ev.Fd)
			var count [8]byte
			_, _ = unix.Read(int(ev.Fd), count[:]) // so that it does not wake again
		}
	}
}

// takeNotices reads what inotify has to say.
func (w *OOMWatcher) takeNotices() {
	var buf [4096]byte
	for {
		n, err := unix.Read(w.notify, buf[:])
		if n < unix.SizeofInotifyEvent || err != nil {
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			// struct inotify_event: wd, mask, cookie, length of the name that follows
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			name := int(binary.NativeEndian.Uint32(b[12:]))
			if mask&unix.IN_Q_OVERFLOW != 0 {
				for id := range w.watches {
					w.hint(id)
				}
			}
			w.hint(wd)
			b = b[min(len(b), unix.SizeofInotifyEvent+name):]
		}
	}
}

func (w *OOMWatcher) hint(id int32) {
	if watch := w.watches[id]; watch != nil {
		watch.delay, watch.next = oomFirstDelay, time.Now()
	}
}

// recheck reads the counters whose time has come and sets the next time.
func (w *OOMWatcher) recheck() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var earliest time.Time
	for _, watch := range w.watches {
		if watch.next.IsZero() {
			continue
		}
		if !watch.next.After(now) {
			watch.check()
			watch.next = now.Add(watch.delay)
			if watch.delay *= 2; watch.delay > oomLastDelay {
				watch.next = time.Time{}
				continue
			}
		}
		if earliest.IsZero() || watch.next.Before(earliest) {
			earliest = watch.next
		}
	}
	return w.epoll.SetReadDeadline(earliest)
}

func (w *oomWatch) check() {
	// A group that is gone has no more to tell; what cannot be read now may be later.
	kills, err := w.group.OOMKills()
	if err == nil && kills > w.seen {
		w.seen = kills
		w.tell(kills)
	}
}
