package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
)

// feedRetry is how long a feed that was full is left alone, before it is told
// how far the log is.
const feedRetry = 20 * time.Millisecond

// feeds are the sockets that get the log's batches. None ever waits for its
// reader: what does not fit into the socket is left out, and the numbers of the
// batches show it.
type feeds struct {
	log *crilog.Writer

	// mu guards what follows. The Writer is locked before it, never after it.
	mu     sync.Mutex
	list   []*feed
	closed bool
	armed  bool // a call of tell is due
	header []byte
	gone   sync.WaitGroup
}

// feed is one of them.
type feed struct {
	file  *os.File
	fd    int    // of file, which only feeds closes, under mu
	count uint64 // batches so far, those left out included
}

// add takes over a socket and begins to feed it.
func (s *feeds) add(f *os.File) error {
	if err := nonblocking(&f); err != nil {
		return err
	}
	one := &feed{file: f}
	err := control(f, func(fd int) error {
		one.fd = fd
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err == nil && typ != unix.SOCK_SEQPACKET || errors.Is(err, unix.ENOTSOCK) {
			return errors.New("not a socket of packets")
		}
		return err
	})
	if err != nil {
		f.Close()
		return fmt.Errorf("feed log: %w", err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		f.Close()
		return noProcess("init")
	}
	s.list = append(s.list, one)
	s.mu.Unlock()
	s.gone.Go(func() {
		waitHangup(f)
		s.remove(one)
	})
	s.log.Tap(s.send)
	return nil
}

// remove forgets a feed whose reader has gone.
func (s *feeds) remove(one *feed) {
	s.mu.Lock()
	i := slices.Index(s.list, one)
	if i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
		one.file.Close()
	}
	last := i >= 0 && len(s.list) == 0 && !s.closed
	s.mu.Unlock()
	if last {
		s.untap()
	}
}

// untap has the Writer call nobody, unless somebody has come meanwhile.
func (s *feeds) untap() {
	s.log.Tap(nil)
	s.mu.Lock()
	again := len(s.list) > 0
	s.mu.Unlock()
	if again {
		s.log.Tap(s.send)
	}
}

// send gives a batch to all. The Writer is locked.
func (s *feeds) send(b crilog.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.list {
		s.header = b.AppendHeader(s.header[:0], one.count)
		one.count++
		_, err := unix.SendmsgBuffers(one.fd, [][]byte{s.header, b.Records}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		// Of any other error its reader has gone, which waitHangup sees, too.
		if errors.Is(err, unix.EAGAIN) && !s.armed {
			s.armed = true
			time.AfterFunc(feedRetry, s.tell)
		}
	}
}

// tell tells the feeds how far the log is: those that were full may have missed
// the last that was written.
func (s *feeds) tell() {
	s.mu.Lock()
	s.armed = false
	s.mu.Unlock()
	s.log.Tell()
}

// close ends all feeds, behind what was sent.
func (s *feeds) close() {
	s.mu.Lock()
	s.closed = true
	for _, one := range s.list {
		// Its reader finds the end, and waitHangup, if it did not before.
		_ = unix.Shutdown(one.fd, unix.SHUT_RDWR)
		one.file.Close()
	}
	s.list = nil
	s.mu.Unlock()
	s.gone.Wait()
}
