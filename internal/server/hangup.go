package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups notices clients of hijacked connections that have gone away.
//
// A stream cannot tell by reading: a client that has ended its input and one
// that is gone look the same. For a unix socket poll tells them apart: EPOLLHUP
// comes when both directions are shut (unix_poll in net/unix/af_unix.c). A TCP
// client that is gone shows when something is sent to it; until then nobody can
// know.
//
// One epoll instance watches all connections and is itself watched by Go's
// poller, so that no thread waits.
type hangups struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}

	mu      sync.Mutex
	last    uint32
	cancels map[uint32]context.CancelFunc
}

func newHangups() (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll for hangups: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("epoll for hangups: %w", err)
	}
	h := &hangups{file: os.NewFile(uintptr(fd), "hangups"), done: make(chan struct{}), cancels: map[uint32]context.CancelFunc{}}
	if h.raw, err = h.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, h.file.Close())
	}
	go h.run()
	return h, nil
}

// watch calls cancel once when the client of c has gone. The function returned
// ends the watch.
func (h *hangups) watch(c net.Conn, cancel context.CancelFunc) (stop func()) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // tls.Conn
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() {}
	}
	h.mu.Lock()
	h.last++
	id := h.last
	h.cancels[id] = cancel
	h.mu.Unlock()

	stop = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.cancels, id)
	}
	// EPOLLHUP is always reported; the kernel drops the entry when the
	// connection is closed.
	added := false
	err = raw.Control(func(fd uintptr) {
		added = h.control(unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(id)}) == nil
	})
	if err != nil || !added {
		stop()
		return func() {}
	}
	return stop
}

func (h *hangups) control(op, fd int, ev *unix.EpollEvent) error {
	var inner error
	err := h.raw.Control(func(epfd uintptr) { inner = unix.EpollCtl(int(epfd), op, fd, ev) })
	return errors.Join(err, inner)
}

// run delivers hangups until close.
func (h *hangups) run() {
	defer close(h.done)
	events := make([]unix.EpollEvent, 16)
	for {
		n := 0
		err := h.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
		})
		if err != nil || n <= 0 {
			return
		}
		for _, ev := range events[:n] {
			h.deliver(uint32(ev.Fd))
		}
	}
}

func (h *hangups) deliver(id uint32) {
	h.mu.Lock()
	cancel := h.cancels[id]
	delete(h.cancels, id)
	h.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// watched returns how many connections are watched.
func (h *hangups) watched() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.cancels)
}

// close returns when the last hangup has been delivered.
func (h *hangups) close() error {
	err := h.file.Close()
	<-h.done
	if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
