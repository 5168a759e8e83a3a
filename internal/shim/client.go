package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// pendingMost is the most that is kept for a client after the end of the
// process. What was in the pipes is far less; it takes a grandchild that goes
// on writing to get there.
const pendingMost = 4 << 20

// inputSize is how much is read of a client's input at once.
const inputSize = 16 << 10

// client is one attached socket.
type client struct {
	file *os.File
	spec wire.AttachSpec
	// pending is what could not be sent before the end of the process. Only
	// the pump that holds output.mu, and finish after all pumps, touch it.
	pending []byte
}

// attach connects a socket with the process and takes it over. What the socket
// does not get is in the log when attach returns, unfinished lines included.
func (o *output) attach(f *os.File, spec wire.AttachSpec) error {
	if err := o.join(f, spec); err != nil {
		return err
	}
	if err := o.log.Flush(); err != nil {
		o.note(err)
	}
	return nil
}

func (o *output) join(f *os.File, spec wire.AttachSpec) error {
	if err := nonblocking(&f); err != nil {
		return err
	}
	err := control(f, func(fd int) error {
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err == nil && typ != unix.SOCK_STREAM || errors.Is(err, unix.ENOTSOCK) {
			return errors.New("not a stream socket")
		}
		return err
	})
	if err != nil {
		f.Close()
		return fmt.Errorf("attach: %w", err)
	}
	c := &client{file: f, spec: spec}
	o.clientsMu.Lock()
	defer o.clientsMu.Unlock()
	if o.over {
		f.Close()
		return noProcess(wire.Init)
	}
	if o.hurried {
		c.hurry()
	}
	// A new slice, since pumps use the old one without the lock.
	o.clients = append(slices.Clip(o.clients), c)
	o.readers.Go(func() { o.serve(c) })
	return nil
}

// receivers lists the clients that want a stream.
func (o *output) receivers(stream crilog.Stream) []*client {
	o.clientsMu.Lock()
	all := o.clients
	o.clientsMu.Unlock()
	if len(all) == 0 {
		return nil
	}
	wanted := make([]*client, 0, len(all))
	for _, c := range all {
		if stream == crilog.Stdout && c.spec.Stdout || stream == crilog.Stderr && c.spec.Stderr {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// drop forgets a client that has gone.
func (o *output) drop(c *client) {
	o.clientsMu.Lock()
	o.clients = slices.DeleteFunc(slices.Clone(o.clients), func(other *client) bool { return other == c })
	o.clientsMu.Unlock()
	c.file.Close()
}

// send writes one piece of output. A slow client blocks, and with it the
// container, as users of Docker know it; once the process has ended, what does
// not fit is kept instead.
func (c *client) send(data []byte) error {
	if len(c.pending) == 0 {
		n, err := c.file.Write(data)
		data = data[n:]
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err == nil {
			return nil
		}
	}
	if len(c.pending)+len(data) > pendingMost {
		return errors.New("too much is pending")
	}
	c.pending = append(c.pending, data...)
	return nil
}

// hurry makes a write that blocks return, and all further ones return at once.
func (c *client) hurry() { c.file.SetWriteDeadline(time.Unix(1, 0)) }

// finish sends what is pending and closes.
func (c *client) finish() {
	c.file.SetWriteDeadline(time.Time{})
	if len(c.pending) > 0 {
		// The socket may hold it all, as far as the system allows
		// (net.core.wmem_max); then the shim need not wait for the client.
		setSendBuffer(c.file, pendingMost)
		_, _ = c.file.Write(c.pending) // an error means that nobody wants it
		c.pending = nil
	}
	c.close()
}

// setSendBuffer asks for a larger buffer; what it gets is as good.
func setSendBuffer(f *os.File, size int) {
	_ = control(f, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size) })
}

// close ends the connection so that the peer reads to the end: closing a
// socket with unread input would reset it (af_unix.c, unix_release_sock).
func (c *client) close() {
	// The error is that of a peer which has gone already.
	_ = control(c.file, func(fd int) error {
		if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
			return err
		}
		var scrap [4096]byte
		for {
			if n, err := readRetry(fd, scrap[:]); n == 0 || err != nil {
				return err
			}
		}
	})
	c.file.Close()
}

// serve passes on a client's input, then waits for it to go.
func (o *output) serve(c *client) {
	err := o.stdin.feed(c.file, c.spec.Stdin)
	if c.spec.Stdin {
		o.stdin.end(c.spec.CloseStdin)
	}
	if err == nil {
		waitHangup(c.file)
	}
	if o.isOver() {
		return // finish closes it
	}
	o.drop(c)
}

func (o *output) isOver() bool {
	o.clientsMu.Lock()
	defer o.clientsMu.Unlock()
	return o.over
}

// waitHangup returns when the peer has closed the socket altogether; one that
// only shut down its sending side still wants output.
func waitHangup(f *os.File) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	// It ends by an error when our end is closed.
	_ = rc.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
}

// feed reads a client until it sends no more. Input that the process cannot
// get is dropped, so that the client never blocks on it. The error is nil at
// the end of input.
func (s *stdin) feed(f *os.File, wanted bool) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var buf []byte
	for {
		var n int
		var rerr error
		err := rc.Read(func(fd uintptr) bool {
			if buf == nil {
				// Most clients never send anything: no buffer before there is
				// something to read.
				fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				if n, err := unix.Poll(fds, 0); n == 0 && err == nil {
					return false
				}
				buf = make([]byte, inputSize)
			}
			n, rerr = readRetry(int(fd), buf)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err = errors.Join(err, rerr); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if wanted {
			s.write(buf[:n])
		}
	}
}

// readRetry is read(2) without the EINTR.
func readRetry(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// control runs fn on f's descriptor, which stays open meanwhile. Unlike
// File.Fd it leaves the descriptor nonblocking. The error is os.ErrClosed if f
// is closed.
func control(f *os.File, fn func(fd int) error) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = fn(int(fd)) }); err != nil {
		return os.ErrClosed // the one reason that there is
	}
	return ferr
}
