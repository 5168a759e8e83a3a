// Package kmsg reads the kernel's log as it grows, and picks out of it whom the
// kernel killed for want of memory.
//
// [Open] gives a [Reader]; [Reader.Follow] hands over each [Record], and
// [OOMParser] makes an [OOMKill] of the several records that tell of one. The log
// belongs to the whole machine: kills in other people's containers are in it too,
// and are told apart by their control group.
//
// Records and their fields are described in Documentation/ABI/testing/dev-kmsg.
package kmsg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Record is one message of the log.
type Record struct {
	Seq      uint64
	Level    int // as in syslog(3): 0 is an emergency, 7 debugging
	Facility int // 0 is the kernel itself; what programs write is never that
	Time     time.Time
	Text     string // several lines if the kernel wrote several
	// Lost is how many records before this one were overwritten before they were
	// read.
	Lost uint64
}

// Where reading begins.
type Where int

// The places.
const (
	Beginning Where = iota // with the oldest record that is there
	End                    // with what is to come
)

// Reader reads the log. Every Reader sees all of it.
type Reader struct {
	file *os.File
	boot time.Time // when the clock of the log was zero
	next uint64    // the number that is expected; 0: any
	buf  []byte
}

// maxRecord is more than the kernel hands out at once (PRINTK_MESSAGE_MAX, 2 KiB;
// in older kernels CONSOLE_EXT_LOG_MAX, 8 KiB).
const maxRecord = 16 << 10

// Open opens the log. It needs CAP_SYSLOG where dmesg_restrict is set.
func Open(where Where) (*Reader, error) {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open kernel log: %w", err)
	}
	if where == End {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			f.Close()
			return nil, fmt.Errorf("open kernel log: %w", err)
		}
	}
	boot, err := bootTime()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open kernel log: %w", err)
	}
	return &Reader{file: f, boot: boot, buf: make([]byte, maxRecord)}, nil
}

// bootTime is when the clock began by which the log counts. Where the machine was
// suspended since, times before that come out late.
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}, os.NewSyscallError("clock_gettime", err)
	}
	return time.Now().Round(0).Add(-time.Duration(ts.Nano())), nil
}

// Close closes the log and ends a Follow with os.ErrClosed.
func (r *Reader) Close() error { return r.file.Close() }

// Follow calls fn for each record until ctx ends, whose cause it then returns,
// until fn returns an error, or until the reader is closed. It waits in the
// runtime's poller, so that no thread is held. Only one Follow may run at a time,
// and after ctx has ended the Reader can only be closed.
func (r *Reader) Follow(ctx context.Context, fn func(Record) error) error {
	stop := context.AfterFunc(ctx, func() { _ = r.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		rec, err := r.read()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return context.Cause(ctx)
		case errors.Is(err, unix.EPIPE):
			continue // overwritten meanwhile; the next number tells how much
		case errors.Is(err, errMalformed):
			continue
		case err != nil:
			return fmt.Errorf("read kernel log: %w", err)
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// Drain calls fn for each record that is there and returns without waiting for
// more, or with what fn returned.
func (r *Reader) Drain(fn func(Record) error) error {
	raw, err := r.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("read kernel log: %w", err)
	}
	for {
		n, inner := 0, error(nil)
		if err := raw.Read(func(fd uintptr) bool { n, inner = unix.Read(int(fd), r.buf); return true }); err != nil {
			return fmt.Errorf("read kernel log: %w", err)
		}
		switch {
		case errors.Is(inner, unix.EAGAIN):
			return nil
		case errors.Is(inner, unix.EPIPE), errors.Is(inner, unix.EINTR):
			continue
		case inner != nil:
			return fmt.Errorf("read kernel log: %w", inner)
		}
		rec, err := r.take(r.buf[:n])
		if err != nil {
			continue // malformed
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

func (r *Reader) read() (Record, error) {
	n, err := r.file.Read(r.buf)
	if err != nil {
		return Record{}, err
	}
	return r.take(r.buf[:n])
}

func (r *Reader) take(b []byte) (Record, error) {
	rec, since, err := parse(b)
	if err != nil {
		return Record{}, err
	}
	if r.next > 0 && rec.Seq > r.next {
		rec.Lost = rec.Seq - r.next
	}
	r.next = rec.Seq + 1
	rec.Time = r.boot.Add(since)
	return rec, nil
}

var errMalformed = errors.New("malformed kernel log record")

// parse reads "6,1234,5678901,-;text\n KEY=value\n" (prefix, more fields that are
// to be ignored, text, dictionary).
func parse(b []byte) (rec Record, since time.Duration, err error) {
	prefix, text, ok := bytes.Cut(b, []byte(";"))
	fields := bytes.Split(prefix, []byte(","))
	if !ok || len(fields) < 4 {
		return Record{}, 0, errMalformed
	}
	priority, err1 := strconv.ParseUint(string(fields[0]), 10, 32)
	seq, err2 := strconv.ParseUint(string(fields[1]), 10, 64)
	microseconds, err3 := strconv.ParseInt(string(fields[2]), 10, 64)
	if errors.Join(err1, err2, err3) != nil {
		return Record{}, 0, errMalformed
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	rec = Record{Seq: seq, Level: int(priority & 7), Facility: int(priority >> 3), Text: unescape(text)}
	return rec, time.Duration(microseconds) * time.Microsecond, nil
}

// unescape undoes `\x0a` and the like, in which the kernel writes what is not
// printable, and the backslash.
func unescape(b []byte) string {
	if !bytes.Contains(b, []byte(`\x`)) {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		if len(b) >= 4 && b[0] == '\\' && b[1] == 'x' {
			if n, err := strconv.ParseUint(string(b[2:4]), 16, 8); err == nil {
				out, b = append(out, byte(n)), b[4:]
				continue
			}
		}
		out, b = append(out, b[0]), b[1:]
	}
	return string(out)
}
