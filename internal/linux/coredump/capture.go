package coredump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say where cores come and what is done with them.
type Options struct {
	// Socket is the path at which the kernel is to connect. Its directory must be
	// one that nobody but root can change, in the mount namespace of the machine's
	// first process.
	Socket string
	// Take tells what to do with the core of a process: the result gets it, as an ELF
	// file, and says how it went; what it does not read is lost. nil: the process is
	// not the caller's. It is called for processes that may leave a core only, from
	// several goroutines; the process waits, and its files in /proc are there, until
	// the result has returned. ctx ends when the capture is closed.
	Take   func(ctx context.Context, p *Process) func(core io.Reader) error
	Logger *slog.Logger // nil: nobody
}

// ErrUnsupported says that the kernel has not brought the core of a process that
// crashed.
var ErrUnsupported = errors.New("the kernel does not bring them to a socket: Linux 6.17 and newer do, in the mount namespace of the machine's first process only")

// How long things may take.
const (
	probeTime   = 15 * time.Second // until the kernel has shown that it connects
	helloTime   = 10 * time.Second // until the kernel has said what it wants
	slotTime    = 30 * time.Second // that a process waits for others to be dumped
	dumpTime    = 5 * time.Minute  // of one core that the caller takes
	stallTime   = time.Minute      // that a core for a file may stand still: a large one takes its time, as without us
	closeTime   = 5 * time.Second  // for what is being dumped in the end, into a file system that may hang
	dumpsAtOnce = 2
)

// Capture takes cores until it is closed.
type Capture struct {
	opts     Options
	log      *slog.Logger
	pattern  string // ours
	listener *net.UnixListener
	slots    chan struct{} // of cores that the caller takes
	files    chan struct{} // of others
	work     sync.WaitGroup
	ctx      context.Context //nolint:containedctx // of the capture's goroutines, which Close ends
	end      context.CancelFunc
}

// Open takes core_pattern and the cores. The errors are [*TakenError],
// [ErrUnsupported] and others; after an error all is as it was before.
//
// That the kernel comes is tried out by a process that crashes: the program of the
// caller itself, whose main calls [Crash] when it is named [CrashName].
func Open(ctx context.Context, o Options) (*Capture, error) {
	own, err := patternOf(o.Socket)
	if err != nil {
		return nil, fmt.Errorf("take cores: %w", err)
	}
	now, err := Pattern()
	if err == nil {
		err = free(now, own)
	}
	if err != nil {
		return nil, fmt.Errorf("take cores: %w", err)
	}
	c := &Capture{opts: o, log: o.Logger, pattern: own, slots: make(chan struct{}, dumpsAtOnce), files: make(chan struct{}, dumpsAtOnce)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.listener, err = listen(o.Socket); err != nil {
		return nil, fmt.Errorf("take cores: %w", err)
	}
	c.ctx, c.end = context.WithCancel(context.WithoutCancel(ctx))
	err = setPattern(own)
	if errors.Is(err, unix.EINVAL) {
		err = ErrUnsupported
	}
	if err == nil {
		err = c.probe(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("take cores: %w", errors.Join(err, c.Close()))
	}
	c.work.Go(c.serve)
	return c, nil
}

// listen makes the socket, in place of one that a daemon has left.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close puts back what was there, unless somebody has changed it meanwhile, and
// breaks off what is being dumped.
func (c *Capture) Close() error {
	now, err := Pattern()
	if err == nil && now == c.pattern {
		err = setPattern(kernelDefault)
	}
	if closed := c.listener.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	c.end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.work.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(closeTime):
		err = errors.Join(err, errors.New("a core is being written to a file system that does not answer"))
	}
	return err
}

// Lost tells whether somebody else has changed core_pattern, so that nothing comes
// here any more, and to what.
func (c *Capture) Lost() (pattern string, lost bool) {
	now, err := Pattern()
	return now, err == nil && now != c.pattern
}

// CrashName is the name, as the first word of the command line, under which a
// program is asked to call [Crash].
const CrashName = "porthole-crash"

// Crash ends the process in a way for which the kernel dumps a core.
func Crash() {
	debug.SetTraceback("crash")
	panic("this is to see who gets a core")
}

// probe has a process crash, and returns when the kernel has come for it.
func (c *Capture) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{CrashName}, []string{}, "/"
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("try it out: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // by a signal
		// The kernel waits for an answer before such a process ends: one that has ended
		// without was not brought to us.
		_ = c.listener.SetDeadline(time.Unix(1, 0))
	}()
	came := false
	for !came {
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			cancel()
			<-ended
			return err
		}
		came = c.meet(conn, cmd.Process.Pid)
	}
	<-ended // it has crashed, and the deadline has passed
	if err := c.listener.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if !came {
		return ErrUnsupported
	}
	return nil
}

// meet answers a connection, and tells whether it was for the process that was to
// crash.
func (c *Capture) meet(conn *net.UnixConn, expected int) bool {
	p, err := processOf(conn)
	if err == nil {
		defer p.close()
	}
	if err == nil && p.PID == expected {
		defer conn.Close()
		if err := c.hello(conn); err == nil {
			_ = answer(conn, ackReject|ackWait)
		}
		return true
	}
	c.work.Go(func() { c.handle(conn) })
	return false
}

// serve answers the kernel until the listener is closed.
func (c *Capture) serve() {
	for {
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Warn("a core was not taken", "err", err)
			select { // so that what lasts, as a want of descriptors, does not fill the log
			case <-time.After(time.Second):
			case <-c.ctx.Done():
			}
			continue
		}
		c.work.Go(func() { c.handle(conn) })
	}
}

// handle deals with one crash.
func (c *Capture) handle(conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(c.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	p, err := processOf(conn)
	if err != nil {
		c.log.Warn("a connection for cores was not the kernel's", "err", err)
		return
	}
	defer p.close()
	if err := c.hello(conn); err != nil {
		c.log.Warn("the kernel was not understood", "pid", p.PID, "err", err)
		return
	}
	if p.Limit < smallest {
		_ = answer(conn, ackReject|ackWait)
		return
	}
	if err := c.dump(conn, p); err != nil {
		c.log.Warn("core was not kept", "pid", p.PID, "err", err)
	}
}

// smallest is the limit below which the kernel leaves no core: a page
// (ELF_EXEC_PAGESIZE).
const smallest = 4096

// dump reads a core and gives it to who has it. Containers and the rest of the
// machine do not wait for one another.
func (c *Capture) dump(conn *net.UnixConn, p *Process) error {
	take := c.opts.Take(c.ctx, p)
	slots := c.slots
	if take == nil {
		slots = c.files
	}
	timer := time.NewTimer(slotTime)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-timer.C:
		_ = answer(conn, ackReject|ackWait)
		return fmt.Errorf("others were being dumped for %v", slotTime)
	case <-c.ctx.Done():
		return errors.New("the daemon ends")
	}
	if take != nil {
		return c.receive(conn, dumpTime, take)
	}
	opened := false
	err := withDefault(p, func(file *os.File) error {
		opened = true
		return c.receive(conn, stallTime, func(core io.Reader) error {
			return fill(file, io.LimitReader(&moving{c, conn, core}, p.fileBound()))
		})
	})
	if !opened {
		_ = answer(conn, ackReject|ackWait)
	}
	return err
}

// receive has the kernel send a core, within a time.
func (c *Capture) receive(conn *net.UnixConn, within time.Duration, take func(io.Reader) error) error {
	if err := c.deadline(conn, within); err != nil {
		return err
	}
	if err := answer(conn, ackKernel|ackWait); err != nil {
		return err
	}
	var mark [4]byte
	if _, err := io.ReadFull(conn, mark[:]); err != nil {
		return fmt.Errorf("read the kernel's mark: %w", err)
	}
	if n := binary.NativeEndian.Uint32(mark[:]); n != 0 {
		return fmt.Errorf("the kernel takes our answer for wrong (COREDUMP_MARK %d)", n)
	}
	return take(conn)
}

func (c *Capture) deadline(conn *net.UnixConn, within time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if c.ctx.Err() != nil { // whose deadline this was
		return errors.New("the daemon ends")
	}
	return nil
}

// moving gives each read of a core the time of one that does not stand still.
type moving struct {
	c    *Capture
	conn *net.UnixConn
	core io.Reader
}

func (m *moving) Read(p []byte) (int, error) {
	if err := m.c.deadline(m.conn, stallTime); err != nil {
		return 0, err
	}
	return m.core.Read(p)
}

// What an answer may ask for, and its size; include/uapi/linux/coredump.h.
const (
	ackKernel = 1 << 0
	ackReject = 1 << 2
	ackWait   = 1 << 3
	ackSize   = 16
	reqSize   = 16
)

// hello reads what the kernel offers.
func (c *Capture) hello(conn *net.UnixConn) error {
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return err
	}
	var req [reqSize]byte
	if _, err := io.ReadFull(conn, req[:]); err != nil {
		return err
	}
	size, ack, mask := binary.NativeEndian.Uint32(req[:]), binary.NativeEndian.Uint32(req[4:]), binary.NativeEndian.Uint64(req[8:])
	const needed = ackKernel | ackReject | ackWait
	if size < reqSize || size > 1<<12 || ack < ackSize || mask&needed != needed {
		return fmt.Errorf("coredump_req has size %d, size_ack %d, mask %#x", size, ack, mask)
	}
	_, err := io.CopyN(io.Discard, conn, int64(size)-reqSize)
	return err
}

func answer(conn *net.UnixConn, mask uint64) error {
	var ack [ackSize]byte
	binary.NativeEndian.PutUint32(ack[:], ackSize)
	binary.NativeEndian.PutUint64(ack[8:], mask)
	_, err := conn.Write(ack[:])
	return err
}
