package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/sys"
)

const (
	// chunkSize is the most that is read of a pipe at once. One buffer serves
	// both streams.
	chunkSize = 64 << 10
	// pipeSize lets program and shim run side by side.
	pipeSize = 256 << 10
	// A stream of hotBytes within hotTime is read every napTime only, or when
	// its pipe may be full.
	hotBytes = 64 << 10
	hotTime  = 2 * time.Millisecond
	napTime  = 400 * time.Microsecond
	// frameHeader is the size of Docker's {stream, 0, 0, 0, length}.
	frameHeader = 8
	// hangupPause is how long a terminal that nobody has open is left alone.
	hangupPause = 50 * time.Millisecond
	// settleTime is how long an unfinished line may stay out of the log.
	settleTime = 200 * time.Millisecond
	// After the end of the process its descriptors may live on in somebody
	// outside of the pid namespace: the shim gives up drainQuiet after the
	// last byte, and anyhow after drainMost.
	drainQuiet = 100 * time.Millisecond
	drainMost  = 3 * time.Second
)

// output is where the first process's output goes, and where its input comes
// from: pipes or a terminal on one side; log and clients on the other.
type output struct {
	log   *crilog.Writer
	spec  wire.StartSpec
	stdin stdin
	note  func(error)

	pumps   sync.WaitGroup
	flusher *time.Timer
	ended   chan struct{} // closed when the process has

	// ptyMu guards pty, and is never held long.
	ptyMu sync.Mutex
	pty   *os.File // the terminal's master; nil without, and after drain

	// mu is held while a chunk is read, logged and sent, so that all
	// receivers see the same order. It may be held long, by a client that does
	// not read.
	mu       sync.Mutex
	sources  []*source
	buf      []byte // room for a frame header, then a chunk
	draining bool
	armed    bool // flusher is running
	logErr   bool // the last write to the log failed

	// clientsMu guards clients, and is never held across a write.
	clientsMu sync.Mutex
	clients   []*client
	hurried   bool // clients must not block any more
	over      bool // nobody may attach any more
	readers   sync.WaitGroup

	feeds feeds
}

// source is one end that output is read from.
type source struct {
	stream crilog.Stream
	file   *os.File
	pace   pace
	end    time.Time // drain no longer than that, but for what is in the pipe
	late   int       // bytes that were read after end; only its pump touches it
}

// pace tells whether a stream is written faster than it should be read: a reader
// that is woken by each little write spends its time, and the writer's, on being
// woken. Only its pump touches it.
type pace struct {
	begun time.Time // of the bytes counted
	bytes int
	fast  bool // enough came in the time before
}

// hot is told of each read, and answers whether to let more gather before the
// next one.
func (p *pace) hot(n int, now time.Time) bool {
	if since := now.Sub(p.begun); since > hotTime {
		p.fast = p.bytes >= hotBytes && since <= 2*hotTime
		p.begun, p.bytes = now, 0
	}
	p.bytes += n
	return (p.fast || p.bytes >= hotBytes) && n < chunkSize
}

func newOutput(log *crilog.Writer, spec wire.StartSpec, note func(error)) *output {
	o := &output{log: log, ended: make(chan struct{}), spec: spec, note: note, feeds: feeds{log: log}}
	o.flusher = time.AfterFunc(time.Hour, o.flushLog)
	o.flusher.Stop()
	return o
}

// makeStdio returns what becomes the process's descriptors 0 to 2 and keeps
// the other ends. With a terminal the stage replaces them.
func (o *output) makeStdio() (stdio [3]*os.File, err error) {
	defer func() {
		if err != nil {
			for i, f := range stdio {
				if f != nil {
					f.Close()
					stdio[i] = nil
				}
			}
		}
	}()
	null := func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) }
	if o.spec.Terminal {
		for i := range stdio {
			if stdio[i], err = null(); err != nil {
				return stdio, err
			}
		}
		return stdio, nil
	}
	if o.spec.OpenStdin {
		var w *os.File
		if stdio[0], w, err = pipe("stdin"); err != nil {
			return stdio, err
		}
		if err = nonblocking(&w); err != nil {
			return stdio, err
		}
		o.stdin.open(w, false, o.spec.StdinOnce)
	} else if stdio[0], err = null(); err != nil {
		return stdio, err
	}
	streams := []crilog.Stream{crilog.Stdout, crilog.Stderr}
	if o.spec.Log.Merge {
		streams = streams[:1]
	}
	for i, stream := range streams {
		var r *os.File
		if r, stdio[i+1], err = pipe(stream.String()); err != nil {
			return stdio, err
		}
		if err = nonblocking(&r); err != nil {
			return stdio, err
		}
		o.addSource(stream, r)
	}
	if o.spec.Log.Merge {
		if stdio[2], err = duplicate(stdio[1]); err != nil {
			return stdio, err
		}
	}
	return stdio, nil
}

// pipe makes a blocking pipe: the process must find its end as every program
// expects it.
func pipe(name string) (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make %s pipe: %w", name, err)
	}
	// More room is a matter of speed: beyond the user's pipe quota the kernel
	// refuses it.
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, pipeSize)
	return os.NewFile(uintptr(p[0]), name), os.NewFile(uintptr(p[1]), name), nil
}

// duplicate returns one more descriptor of the same pipe.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// nonblocking replaces *f by a file over the same description that the network
// poller waits for.
func nonblocking(f **os.File) error {
	old := *f
	defer old.Close()
	fd, err := unix.FcntlInt(old.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate %s: %w", old.Name(), err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("use %s: %w", old.Name(), err)
	}
	*f = os.NewFile(uintptr(fd), old.Name())
	return nil
}

// begin takes over the terminal, if there is one, and starts to read.
func (o *output) begin(pty *os.File, size wire.Size) error {
	if pty != nil {
		if err := nonblocking(&pty); err != nil {
			return err
		}
		o.ptyMu.Lock()
		o.pty = pty
		o.ptyMu.Unlock()
		o.addSource(crilog.Stdout, pty)
		if o.spec.OpenStdin {
			o.stdin.open(pty, true, false)
		}
		if size != (wire.Size{}) {
			return o.resize(size)
		}
	}
	return nil
}

// addSource starts to read f, and closes it in the end.
func (o *output) addSource(stream crilog.Stream, f *os.File) {
	src := &source{stream: stream, file: f}
	o.mu.Lock()
	o.sources = append(o.sources, src)
	o.mu.Unlock()
	o.pumps.Go(func() { o.pump(src) })
}

// pump passes on one stream until its end.
func (o *output) pump(src *source) {
	rc, err := src.file.SyscallConn()
	if err != nil {
		o.note(fmt.Errorf("read %s: %w", src.stream, err))
		return
	}
	read := o.lockedReader(rc)
	for {
		n, err := read()
		if n > 0 {
			now := time.Now()
			o.deliver(src, n, now)
			draining := o.draining
			late := draining && now.After(src.end)
			o.mu.Unlock()
			if late {
				if src.late += n; src.late >= pipeSize {
					return // somebody goes on writing
				}
			}
			if src.pace.hot(n, now) && !draining {
				sys.Nap(napTime)
			}
			continue
		}
		switch {
		case err == nil || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded):
			return // the end; or drained for long enough
		case errors.Is(err, unix.EIO) && o.hungUp():
			continue
		case !errors.Is(err, unix.EIO):
			o.note(fmt.Errorf("read %s: %w", src.stream, err))
		}
		return
	}
}

// lockedReader returns a function that waits for output and reads it into buf.
// If it got some, mu is held: what was read first is passed on first. At the
// end of a pipe both results are zero, and when the time is over and there is
// nothing the error is os.ErrDeadlineExceeded. It allocates nothing, so that a
// container that writes all day causes no garbage.
func (o *output) lockedReader(rc syscall.RawConn) func() (int, error) {
	var n int
	var rerr error
	attempt := func(fd uintptr) bool {
		o.mu.Lock()
		if o.buf == nil {
			o.buf = make([]byte, frameHeader+chunkSize)
		}
		n, rerr = readRetry(int(fd), o.buf[frameHeader:])
		if n <= 0 {
			o.mu.Unlock()
		}
		return !errors.Is(rerr, unix.EAGAIN)
	}
	once := func(fd uintptr) { attempt(fd) }
	return func() (int, error) {
		n, rerr = 0, nil
		err := rc.Read(attempt)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Read does not look at the file once its time is over. The time may have
			// passed while this process had no processor, or the log's disk was slow,
			// with output in the pipe.
			n, rerr = 0, nil
			if err = rc.Control(once); errors.Is(rerr, unix.EAGAIN) {
				return 0, os.ErrDeadlineExceeded
			}
		}
		if err != nil {
			return 0, err
		}
		return n, rerr
	}
}

// hungUp is called when nobody has the terminal open (EIO, tty_io.c). While the
// process lives somebody may open it again, as an init system does with its
// console. It is false when the process had ended already.
func (o *output) hungUp() bool {
	select {
	case <-o.ended:
		return false
	default:
	}
	select {
	case <-o.ended:
	case <-time.After(hangupPause):
	}
	return true
}

// deliver passes on the n bytes in buf. mu is held.
func (o *output) deliver(src *source, n int, now time.Time) {
	data := o.buf[frameHeader : frameHeader+n]
	if err := o.log.Write(src.stream, data, now); err != nil {
		if !o.logErr {
			o.note(err)
		}
		o.logErr = true
	} else {
		o.logErr = false
	}
	if !o.armed && o.log.Unfinished() {
		o.armed = true
		o.flusher.Reset(settleTime)
	}
	if !o.spec.Terminal {
		o.buf[0], o.buf[1], o.buf[2], o.buf[3] = byte(src.stream), 0, 0, 0
		binary.BigEndian.PutUint32(o.buf[4:], uint32(n))
		data = o.buf[:frameHeader+n]
	}
	for _, c := range o.receivers(src.stream) {
		if err := c.send(data); err != nil {
			o.drop(c)
		}
	}
	if o.draining {
		quiet := now.Add(drainQuiet)
		if quiet.After(src.end) {
			quiet = src.end
		}
		src.file.SetReadDeadline(quiet)
	}
}

// flushLog puts an unfinished line into the log, such as a prompt.
func (o *output) flushLog() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	if err := o.log.Flush(); err != nil {
		o.note(err)
	}
}

// drain is called when the process has ended: it passes on what is left and
// closes all sources. It does not wait for clients: what they do not take at
// once is kept for finish.
func (o *output) drain() {
	o.clientsMu.Lock()
	o.hurried = true
	for _, c := range o.clients {
		c.hurry()
	}
	o.clientsMu.Unlock()
	close(o.ended)
	o.mu.Lock()
	o.draining = true
	now := time.Now()
	for _, src := range o.sources {
		src.end = now.Add(drainMost)
		src.file.SetReadDeadline(now.Add(drainQuiet))
	}
	o.mu.Unlock()
	o.pumps.Wait()
	o.flusher.Stop()
	o.stdin.close()
	o.ptyMu.Lock()
	o.pty = nil
	o.ptyMu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, src := range o.sources {
		src.file.Close()
	}
	o.sources, o.buf = nil, nil
}

// finish gives the clients what is left for them and lets them go. A client
// that still reads may take as long as it wants; one that has gone is no
// matter.
func (o *output) finish() {
	o.clientsMu.Lock()
	o.over = true
	clients := o.clients
	o.clients = nil
	o.clientsMu.Unlock()
	var done sync.WaitGroup
	for _, c := range clients {
		done.Go(c.finish)
	}
	done.Wait()
	o.readers.Wait()
}

// discard closes everything after a failed start.
func (o *output) discard() {
	o.drain()
	o.closeLog()
	o.finish()
}

// closeLog writes the last line, if it had no newline, and closes the log and
// what is fed by it.
func (o *output) closeLog() {
	if err := o.log.Close(); err != nil {
		o.note(err)
	}
	o.feeds.close()
}

// resize sets the size of the terminal; the kernel sends SIGWINCH.
func (o *output) resize(size wire.Size) error {
	o.ptyMu.Lock()
	defer o.ptyMu.Unlock()
	if o.pty == nil {
		return &wire.Error{Step: "resize", Errno: unix.ENOTTY, Message: "resize: there is no terminal"}
	}
	return setSize(o.pty, size)
}

func setSize(pty *os.File, size wire.Size) error {
	ws := unix.Winsize{Row: size.Height, Col: size.Width}
	if err := control(pty, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &ws) }); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}
