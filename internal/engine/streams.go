package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// streamConn makes a connection of one end of a socketpair and closes the file.
func streamConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("attach: %T is no unix socket", c)
	}
	return u, nil
}

// goneWatch tells when a client has closed its connection altogether, not only its sending half.
type goneWatch struct {
	c    <-chan struct{}
	stop func()
}

// watchGone watches a connection that offers its file descriptor (syscall.Conn, also behind NetConn as with TLS). On
// others, and if idle is false because somebody else reads from the connection, it never fires. A TCP client that
// closes looks like one that has sent all; it is found out by the next write.
func watchGone(conn Stream, idle bool) goneWatch {
	w := goneWatch{stop: func() {}}
	raw := rawConn(conn)
	if raw == nil || !idle {
		return w
	}
	gone := make(chan struct{})
	w.c = gone
	stopped := false
	var mu sync.Mutex
	deadline, _ := any(conn).(interface{ SetReadDeadline(time.Time) error })
	if deadline == nil {
		return goneWatch{stop: func() {}}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := raw.Read(func(fd uintptr) bool {
			mu.Lock()
			defer mu.Unlock()
			return stopped || hungUp(int(fd))
		})
		mu.Lock()
		defer mu.Unlock()
		if !stopped && (err == nil || !errors.Is(err, os.ErrDeadlineExceeded)) {
			close(gone)
		}
	}()
	w.stop = sync.OnceFunc(func() {
		mu.Lock()
		stopped = true
		mu.Unlock()
		_ = deadline.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = deadline.SetReadDeadline(time.Time{})
	})
	return w
}

func rawConn(conn any) syscall.RawConn {
	if n, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = n.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}} // hang-ups and errors are reported unasked
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// frameWriter writes output to a client: as it is for a terminal, otherwise each piece behind Docker's header of eight
// bytes, {stream, 0, 0, 0, length big endian}. Its methods may be called by several goroutines.
type frameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	raw bool
	err error // of an earlier write: the client is gone
	buf []byte
}

func newFrameWriter(w io.Writer, raw bool) *frameWriter { return &frameWriter{w: w, raw: raw} }

func (f *frameWriter) write(stream byte, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if !f.raw {
		f.buf = append(f.buf[:0], stream, 0, 0, 0)
		f.buf = binary.BigEndian.AppendUint32(f.buf, uint32(len(p)))
		p = append(f.buf, p...)
		f.buf = p
	}
	_, f.err = f.w.Write(p)
	return f.err
}

// clientMost is what is kept in memory for an attached client when the container has ended. A shim keeps less.
const clientMost = 8 << 20

// copyToClient copies what a container prints to a client that may be slow, and with it the container. Once ended is
// closed, which may be nil, all that the shim still has is taken into memory at once: so the shim can end, as it must for
// the container to be cleared away, and the client gets the rest at its own pace.
func copyToClient(client io.Writer, shim io.Reader, ended <-chan struct{}) error {
	var mu sync.Mutex // held while the shim is read
	var rest []byte
	var restErr error
	taken, over := false, false
	stop := make(chan struct{})
	var taking sync.WaitGroup
	if ended != nil {
		taking.Go(func() {
			select {
			case <-ended:
			case <-stop:
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !over {
				rest, restErr = io.ReadAll(io.LimitReader(shim, clientMost))
				taken = true
			}
		})
	}
	defer taking.Wait()
	defer close(stop)
	buf := make([]byte, 32<<10)
	for {
		mu.Lock()
		p, err := rest, restErr
		if taken && len(rest) < clientMost {
			over = true
			mu.Unlock()
			_, werr := client.Write(p)
			return errors.Join(err, werr)
		}
		taken, rest = false, nil
		if len(p) == 0 {
			var n int
			n, err = shim.Read(buf)
			p, over = buf[:n], err != nil
		}
		mu.Unlock()
		if _, werr := client.Write(p); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyOutput reads a process's output until its end, and then, after ended is closed, what is there without waiting:
// a grandchild may hold the pipe for ever. Each piece goes to write, whose errors do not stop the reading, so that
// the process is not blocked by a client that went away. It closes f.
func copyOutput(f *os.File, ended <-chan struct{}, write func(p []byte)) {
	defer f.Close()
	stop := make(chan struct{})
	interrupted := make(chan struct{})
	go func() {
		defer close(interrupted)
		select {
		case <-ended:
			_ = f.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	defer func() { close(stop); <-interrupted }()
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			write(buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(f, buf, write)
			return
		}
		if err != nil {
			return
		}
	}
}

// drain reads what is there.
func drain(f *os.File, buf []byte, write func(p []byte)) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	// A grandchild that writes without pause must not keep us either: more than this no pipe or terminal holds.
	for left := 4 << 20; left > 0; {
		n := 0
		if raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }) != nil || err != nil || n <= 0 {
			return
		}
		write(buf[:n])
		left -= n
	}
}

// pollableCopy returns a copy of f's descriptor as a file whose reads can be interrupted.
func pollableCopy(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make %s non-blocking: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
