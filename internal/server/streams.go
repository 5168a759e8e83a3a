package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// logTime is RFC 3339 with all nine digits, so that lines stay aligned.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (s *Server) containerLogs(r *request) error {
	o, err := logsOptions(r)
	if err != nil {
		return err
	}
	tty, err := s.backend.ContainerTTY(r.name)
	if err != nil {
		return err
	}
	ctx, cancel := s.endless(r)
	defer cancel()

	kind := types.MediaTypeRawStream
	if !tty && !r.before(42) {
		kind = types.MediaTypeMultiplexedStream
	}
	out := &logWriter{options: o, frames: !tty}
	out.w = newLazyWriter(r.w, func() {
		r.w.Header().Set("Content-Type", kind)
		if n := out.missing.Load(); n > 0 {
			r.w.Header().Set(api.MissingLinesHeader, strconv.FormatUint(n, 10))
		}
	})
	defer out.w.stop()
	err = s.backend.ContainerLogs(ctx, r.name, o, out.entry)
	switch {
	case ctx.Err() != nil || errors.Is(err, errClientGone) || errors.Is(err, engine.ErrShutdown):
		return nil
	case err != nil && out.w.begun():
		// Too late for a status: the daemon's own stream carries the error.
		return errors.Join(err, out.system(fmt.Sprintf("Error grabbing logs: %v\n", err)))
	case err != nil:
		return err
	}
	return out.w.flush()
}

// logsOptions reads what of the logs is wanted.
func logsOptions(r *request) (engine.LogsOptions, error) {
	o := engine.LogsOptions{
		Stdout: r.flag("stdout"), Stderr: r.flag("stderr"),
		Follow: r.flag("follow"), Timestamps: r.flag("timestamps"), Details: r.flag("details"),
	}
	if !o.Stdout && !o.Stderr {
		return o, invalid("Bad parameters: you must choose at least one stream")
	}
	var err error
	if o.Since, err = r.timestamp("since"); err != nil {
		return o, invalid(`invalid value for "since": %w`, err)
	}
	if r.form.Get("until") != "0" {
		if o.Until, err = r.timestamp("until"); err != nil {
			return o, invalid(`invalid value for "until": %w`, err)
		}
	}
	// Whatever is no number means all, as in Docker.
	o.Tail = -1
	if n, given, err := r.number("tail"); given && err == nil && n >= 0 {
		o.Tail = n
	}
	return o, nil
}

// logWriter puts log entries into the form of the wire.
type logWriter struct {
	w       *lazyWriter
	options engine.LogsOptions
	frames  bool
	buf     []byte
	// missing is the number of lines that were rotated away so far.
	missing atomic.Uint64
}

// frameHead is the length of a frame's head: the stream, three zero bytes, and
// the length of what follows, big endian.
const frameHead = 8

// entry writes one entry. It allocates nothing once its buffer has grown.
func (l *logWriter) entry(e engine.LogEntry) error {
	if e.Dropped > 0 || e.Parts {
		if err := l.gap(e); err != nil {
			return err
		}
	}
	if e.Line == nil {
		return nil
	}
	l.begin(e.Stream, e.Time, e.Continued)
	if l.options.Details && !e.Continued {
		l.buf = append(append(l.buf, e.Details...), ' ')
	}
	l.buf = append(l.buf, e.Line...)
	return l.send()
}

// begin starts a line, or more of one: that has its time already.
func (l *logWriter) begin(stream engine.StreamKind, at time.Time, continued bool) {
	l.buf = l.buf[:0]
	if l.frames {
		l.buf = append(l.buf, byte(stream), 0, 0, 0, 0, 0, 0, 0)
	}
	if l.options.Timestamps && !continued {
		l.buf = at.UTC().AppendFormat(l.buf, logTime)
		l.buf = append(l.buf, ' ')
	}
}

// gap reports lines that are missing in front of e, on the error stream: the
// daemon's own stream would be taken for the end by Docker's clients. Where
// there is no error stream, [api.MissingLinesHeader] has to do.
func (l *logWriter) gap(e engine.LogEntry) error {
	l.missing.Add(e.Dropped)
	if !l.frames || !l.options.Stderr {
		return nil
	}
	l.begin(engine.Stderr, e.Time, false)
	l.buf = fmt.Appendf(l.buf, "porthole: %s\n", api.LogNotice{Dropped: e.Dropped, Damaged: e.Damaged, Parts: e.Parts})
	return l.send()
}

// system writes an error of the daemon, which ends the stream for clients. A
// terminal's stream has no place for one.
func (l *logWriter) system(text string) error {
	if !l.frames {
		return nil
	}
	l.buf = append(l.buf[:0], byte(engine.StreamSystem), 0, 0, 0, 0, 0, 0, 0)
	l.buf = append(l.buf, text...)
	return l.send()
}

func (l *logWriter) send() error {
	if l.frames {
		binary.BigEndian.PutUint32(l.buf[4:], uint32(len(l.buf)-frameHead)) // A line is far shorter.
	}
	_, err := l.w.Write(l.buf)
	return err
}

// errClientGone tells that an answer cannot be delivered.
var errClientGone = errdefs.ErrUnavailable.WithMessage("the client has gone away")

// lazyWriter gathers small writes and sends them when its buffer is full, or a
// moment after the first of them. Followed logs are seen at once, and long ones
// do not cost a system call per line.
type lazyWriter struct {
	w *response
	// prepare is called before the first byte is sent.
	prepare func()

	mu      sync.Mutex
	buf     []byte
	timer   *time.Timer
	armed   bool
	started bool
	err     error
}

// How much a lazyWriter gathers, and for how long.
const (
	lazySize  = 64 << 10
	lazyDelay = 2 * time.Millisecond
)

// newLazyWriter returns a writer that sends its headers after lazyDelay even if
// nothing was written, for clients that wait for them.
func newLazyWriter(w *response, prepare func()) *lazyWriter {
	l := &lazyWriter{w: w, prepare: prepare, buf: make([]byte, 0, lazySize), armed: true}
	l.timer = time.AfterFunc(lazyDelay, l.expire)
	return l
}

// Write keeps p until it is time to send.
func (l *lazyWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	if len(l.buf)+len(p) > lazySize {
		l.send(false)
	}
	if len(p) > lazySize {
		l.begin()
		if _, err := l.w.Write(p); err != nil {
			l.err = errClientGone
		}
		return len(p), l.err
	}
	l.buf = append(l.buf, p...)
	if !l.armed {
		l.armed = true
		l.timer.Reset(lazyDelay)
	}
	return len(p), l.err
}

func (l *lazyWriter) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.armed {
		return
	}
	l.armed = false
	l.send(true)
}

func (l *lazyWriter) begin() {
	if l.started {
		return
	}
	l.started = true
	l.prepare()
	l.w.WriteHeader(http.StatusOK)
}

// send passes the buffer on. Callers hold mu.
func (l *lazyWriter) send(flush bool) {
	if l.err != nil {
		return
	}
	l.begin()
	if len(l.buf) > 0 {
		if _, err := l.w.Write(l.buf); err != nil {
			l.err = errClientGone
		}
		l.buf = l.buf[:0]
	}
	if flush {
		l.w.Flush()
	}
}

// begun tells whether the answer is under way.
func (l *lazyWriter) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// open sends the headers.
func (l *lazyWriter) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(true)
}

// flush sends all that was written.
func (l *lazyWriter) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(false)
	return nil
}

// stop ends the timer; nothing is sent after it has returned. What has begun is
// sent to the end.
func (l *lazyWriter) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	l.timer.Stop()
	if l.started {
		l.send(false)
	}
	l.err = errClientGone
}

func (s *Server) containerStats(r *request) error {
	stream := r.flagOn("stream")
	oneShot := !r.before(41) && r.flag("one-shot")
	ctx, cancel := s.endless(r)
	defer cancel()
	out := jsonStream{w: flushWriter{r.w}}
	err := s.backend.ContainerStats(ctx, r.name, stream, oneShot, func(st *api.Stats) error {
		if r.w.status == 0 {
			r.w.Header().Set("Content-Type", "application/json")
		}
		sample := *st
		sample.OSType = "" // since 1.52
		return out.write(&sample)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// containerSamples answers with one sample per line.
func (s *Server) containerSamples(r *request) error {
	o := engine.SamplesOptions{Follow: r.flag("follow")}
	var err error
	if o.Since, err = r.timestamp("since"); err != nil {
		return invalid(`invalid value for "since": %w`, err)
	}
	if o.Until, err = r.timestamp("until"); err != nil {
		return invalid(`invalid value for "until": %w`, err)
	}
	if o.Last, _, err = r.number("last"); err != nil || o.Last < 0 {
		return invalid(`invalid value for "last": %q is no number of samples`, r.form.Get("last"))
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	w := newLazyWriter(r.w, func() { r.w.Header().Set("Content-Type", "application/x-ndjson") })
	defer w.stop()
	out := jsonStream{w: w}
	err = s.backend.ContainerSamples(ctx, r.name, o, func(sample *api.Sample) error { return out.write(sample) })
	if ctx.Err() != nil || errors.Is(err, errClientGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.flush()
}

func (s *Server) containerResize(r *request) error {
	height, err := r.size("h", "height")
	if err != nil {
		return err
	}
	width, err := r.size("w", "width")
	if err != nil {
		return err
	}
	if err := s.backend.ContainerResize(r.ctx(), r.name, height, width); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *Server) containerAttach(r *request) error {
	tty, err := s.backend.ContainerTTY(r.name)
	if err != nil {
		return err
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	err = s.backend.ContainerAttach(ctx, r.name, attachOptions(r), func() (engine.Stream, error) {
		return h.open(!tty)
	})
	return h.ended(ctx, err)
}

func attachOptions(r *request) engine.AttachOptions {
	return engine.AttachOptions{
		Stdin: r.flag("stdin"), Stdout: r.flag("stdout"), Stderr: r.flag("stderr"),
		Stream: r.flag("stream"), Logs: r.flag("logs"),
		DetachKeys: r.form.Get("detachKeys"),
	}
}

// ended decides what becomes of the error that a stream has ended with.
func (h *hijacker) ended(ctx interface{ Err() error }, err error) error {
	if h.stream == nil {
		return err
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		h.r.log.Debug("stream ended", "err", err)
	}
	return nil
}
