package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

type netTransport struct{ c *net.UnixConn }

func (t netTransport) read(p, oob []byte) (n, oobn int, truncated bool, err error) {
	// ReadMsgUnix sets MSG_CMSG_CLOEXEC by itself.
	n, oobn, flags, _, err := t.c.ReadMsgUnix(p, oob)
	if isEnd(err) {
		return 0, 0, false, nil
	}
	return n, oobn, flags&unix.MSG_CTRUNC != 0, err
}

func (t netTransport) write(p, oob []byte) (int, error) {
	n, _, err := t.c.WriteMsgUnix(p, oob, nil)
	return n, err
}

func (t netTransport) Close() error { return t.c.Close() }

// isEnd tells whether the peer has closed the connection; with data of ours
// unread, that shows as a reset (af_unix.c, unix_release_sock).
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
}

// fdTransport is a blocking descriptor used without the network poller.
type fdTransport int

func (t fdTransport) read(p, oob []byte) (n, oobn int, truncated bool, err error) {
	for {
		n, oobn, flags, _, err := unix.Recvmsg(int(t), p, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if isEnd(err) {
			return 0, 0, false, nil
		}
		return max(n, 0), oobn, flags&unix.MSG_CTRUNC != 0, err
	}
}

func (t fdTransport) write(p, oob []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(int(t), p, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

func (t fdTransport) Close() error { return unix.Close(int(t)) }

// rawFDs lists descriptor numbers without switching the files to blocking
// mode, as File.Fd would for the benefit of whoever shares the description.
func rawFDs(files []*os.File) ([]int, error) {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		rc, err := f.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("send file %q: %w", f.Name(), err)
		}
		if err := rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, fmt.Errorf("send file %q: %w", f.Name(), err)
		}
	}
	return fds, nil
}

func keepAlive(files []*os.File) { runtime.KeepAlive(files) }

// Above gives a stage's connection a descriptor of at least n, so that those below it
// can become others.
func (c *Conn) Above(n int) error {
	fd, ok := c.t.(fdTransport)
	if !ok || int(fd) >= n {
		return nil
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, n)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	c.t = fdTransport(moved)
	return unix.Close(int(fd))
}
