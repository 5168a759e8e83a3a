// Package event keeps what happened: an append-only, numbered journal on disk that is followed while it grows.
//
// [Open] gives a [Journal]; [Journal.Publish] appends one event; [Journal.Read] replays events since a time and, if asked
// to, follows. Followers read the file, each at its own pace: nothing is buffered for them in memory, and a follower
// that is slow loses nothing until the journal has gone through all its segments, which it is told (ErrLagged).
//
// Format. A directory of segments `%08d.events`; each line is one JSON object, the Docker event message with one more
// field, the sequence number:
//
//	{"seq":17,"Type":"container","Action":"start","Actor":{…},"scope":"local","time":1764057600,"timeNano":1764057600000000000}
//
// Sequence numbers grow by one and never repeat; times never go back. A line that was torn by a crash is cut off by the
// next Open. When a segment has grown to MaxSize the next one begins, and the oldest beyond MaxSegments is removed.
//
// Filters, and who the actor of an event is, are the business of the caller.
package event

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
)

// ErrLagged ends a Read whose next event was removed before it came to it.
var ErrLagged = errors.New("events were removed before they were read")

// Record is one line of the journal.
type Record struct {
	Seq uint64 `json:"seq"`
	events.Message
}

// Options bound the journal. The zero value means 8 segments of 4 MiB.
type Options struct {
	MaxSize     int64
	MaxSegments int
}

func (o Options) withDefaults() Options {
	if o.MaxSize <= 0 {
		o.MaxSize = 4 << 20
	}
	if o.MaxSegments <= 0 {
		o.MaxSegments = 8
	}
	return o
}

// Journal is an open journal. Its methods may be called from any goroutine.
type Journal struct {
	dir     string
	options Options
	readers atomic.Int64

	mu     sync.Mutex
	active *os.File // last of segments, opened for append
	size   int64
	first  []int // numbers of the segments that exist, ascending
	seq    uint64
	last   int64         // timeNano of the last event
	grown  chan struct{} // closed and replaced when an event was appended
	closed bool
}

// Open opens or creates the journal in dir.
func Open(dir string, o Options) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open event journal: %w", err)
	}
	j := &Journal{dir: dir, options: o.withDefaults(), grown: make(chan struct{})}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open event journal %q: %w", dir, err)
	}
	return j, nil
}

func (j *Journal) path(segment int) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d.events", segment))
}

// load finds the segments, mends the last one and takes up the numbering.
func (j *Journal) load() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "%08d.events", &n); err == nil && filepath.Base(j.path(n)) == e.Name() {
			j.first = append(j.first, n)
		}
	}
	slices.Sort(j.first)
	if len(j.first) == 0 {
		return j.begin(1)
	}
	for i := len(j.first) - 1; i >= 0 && j.seq == 0; i-- {
		if err := j.takeUp(j.first[i]); err != nil {
			return err
		}
	}
	newest := j.first[len(j.first)-1]
	f, err := os.OpenFile(j.path(newest), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	j.active, j.size = f, info.Size()
	return nil
}

// takeUp cuts a torn last line off a segment and remembers its last event.
func (j *Journal) takeUp(segment int) error {
	f, err := os.OpenFile(j.path(segment), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var good int64
	for {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		var rec Record
		if err == io.EOF || json.Unmarshal(line, &rec) != nil {
			break
		}
		good += int64(len(line))
		j.seq, j.last = rec.Seq, rec.TimeNano
	}
	return f.Truncate(good)
}

func (j *Journal) begin(segment int) error {
	f, err := os.OpenFile(j.path(segment), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if j.active != nil {
		j.active.Close()
	}
	j.active, j.size = f, 0
	j.first = append(j.first, segment)
	return nil
}

// Publish appends an event and wakes the followers. It sets the event's scope if empty and its time, which is now or,
// should the clock have gone back, just after the last event's. The event is with the kernel when Publish returns; it is
// not forced to the disk.
func (j *Journal) Publish(m events.Message) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return Record{}, fmt.Errorf("append event: %w", os.ErrClosed)
	}
	now := max(time.Now().UnixNano(), j.last+1)
	m.Time, m.TimeNano = now/1e9, now
	if m.Scope == "" {
		m.Scope = "local"
	}
	rec := Record{Seq: j.seq + 1, Message: m}
	line, err := json.Marshal(rec)
	if err != nil {
		return Record{}, fmt.Errorf("append event: %w", err)
	}
	if err := j.append(append(line, '\n')); err != nil {
		return Record{}, fmt.Errorf("append event: %w", err)
	}
	j.seq, j.last = rec.Seq, now
	close(j.grown)
	j.grown = make(chan struct{})
	return rec, nil
}

func (j *Journal) append(line []byte) error {
	if j.size >= j.options.MaxSize {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	n, err := j.active.Write(line)
	if err != nil && n > 0 {
		// Half a line would hide the next one.
		if terr := j.active.Truncate(j.size); terr != nil {
			err = errors.Join(err, terr)
		}
		n = 0
	}
	j.size += int64(n)
	return err
}

func (j *Journal) rotate() error {
	if err := j.begin(j.first[len(j.first)-1] + 1); err != nil {
		return err
	}
	for len(j.first) > j.options.MaxSegments {
		if err := os.Remove(j.path(j.first[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		j.first = j.first[1:]
	}
	return nil
}

// Close ends all Reads and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	close(j.grown)
	return errors.Join(j.active.Sync(), j.active.Close())
}

// Readers is the number of Reads under way.
func (j *Journal) Readers() int { return int(j.readers.Load()) }

// ReadOptions say which part of the journal is read.
type ReadOptions struct {
	Since time.Time // inclusive; zero: only events to come
	Until time.Time // inclusive; zero: for ever
	// NoFollow ends the Read at the last event that exists.
	NoFollow bool
}

// Read calls fn for each event in order. It returns nil when Until has come, or at the last event with NoFollow; the
// cause of ctx when that ends first; os.ErrClosed when the journal was closed; ErrLagged; or what fn returned.
// Opened, if not nil, is called once Read has noted where it begins: no later event will be missed.
func (j *Journal) Read(ctx context.Context, o ReadOptions, opened func(), fn func(Record) error) error {
	j.readers.Add(1)
	defer j.readers.Add(-1)
	c, err := j.cursor(o)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer c.close()
	if opened != nil {
		opened()
	}
	var until <-chan time.Time
	if !o.Until.IsZero() {
		timer := time.NewTimer(time.Until(o.Until))
		defer timer.Stop()
		until = timer.C
	}
	for {
		grown, closed := j.watch()
		done, err := c.drain(o, fn)
		if err != nil || done || o.NoFollow {
			return err
		}
		if closed {
			return os.ErrClosed
		}
		select {
		case <-grown:
		case <-until:
			_, err := c.drain(o, fn)
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch returns the channel that is closed by the next event. It must be taken before the journal is read.
func (j *Journal) watch() (grown <-chan struct{}, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.grown, j.closed
}

// cursor is a place in the journal.
type cursor struct {
	j       *Journal
	segment int
	file    *os.File
	buf     *bufio.Reader
	partial []byte // of a line that was not complete yet
}

func (j *Journal) cursor(o ReadOptions) (*cursor, error) {
	j.mu.Lock()
	segments, size := slices.Clone(j.first), j.size
	j.mu.Unlock()
	c := &cursor{j: j}
	if o.Since.IsZero() {
		return c, c.open(segments[len(segments)-1], size)
	}
	// The newest segment that begins before Since holds the first event wanted.
	for i := len(segments) - 1; i >= 0; i-- {
		begins, err := j.begins(segments[i])
		if errors.Is(err, os.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return nil, err
		}
		if i == 0 || (begins > 0 && begins <= o.Since.UnixNano()) {
			offset, err := j.seek(segments[i], o.Since.UnixNano())
			if err != nil {
				return nil, err
			}
			return c, c.open(segments[i], offset)
		}
	}
	return c, c.open(segments[len(segments)-1], 0)
}

// begins is the time of a segment's first event; 0 for an empty one.
func (j *Journal) begins(segment int) (int64, error) {
	f, err := os.Open(j.path(segment))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return 0, nil // no complete event
	}
	var rec Record
	if err := json.Unmarshal(line, &rec); err != nil {
		return 0, fmt.Errorf("segment %d: %w", segment, err)
	}
	return rec.TimeNano, nil
}

// seek returns an offset at or before the first event of a segment that is not older than since, by halving.
func (j *Journal) seek(segment int, since int64) (int64, error) {
	f, err := os.Open(j.path(segment))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	low, high := int64(0), info.Size() // the event at low is older or first
	for high-low > 64<<10 {
		middle := low + (high-low)/2
		begin, at, err := lineAfter(f, middle)
		if err != nil {
			return 0, err
		}
		if begin < 0 || at >= since {
			high = middle
		} else {
			low = begin
		}
	}
	return low, nil
}

// lineAfter finds the first whole line that begins after offset. begin is -1 when there is none.
func lineAfter(f *os.File, offset int64) (begin, timeNano int64, err error) {
	r := bufio.NewReader(io.NewSectionReader(f, offset, 1<<62-offset))
	skipped, err := r.ReadBytes('\n')
	if err == io.EOF {
		return -1, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	line, err := r.ReadBytes('\n')
	if err == io.EOF {
		return -1, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	var rec Record
	if err := json.Unmarshal(line, &rec); err != nil {
		return 0, 0, err
	}
	return offset + int64(len(skipped)), rec.TimeNano, nil
}

func (c *cursor) open(segment int, offset int64) error {
	f, err := os.Open(c.j.path(segment))
	if errors.Is(err, os.ErrNotExist) {
		return ErrLagged
	}
	if err != nil {
		return err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return err
	}
	c.close()
	c.segment, c.file, c.buf, c.partial = segment, f, bufio.NewReaderSize(f, 16<<10), nil
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// drain hands over all events that exist. done tells that one was later than Until.
func (c *cursor) drain(o ReadOptions, fn func(Record) error) (done bool, err error) {
	for {
		newest := c.newest() // before reading: a segment that is not the newest gets no more lines
		line, err := c.buf.ReadBytes('\n')
		c.partial = append(c.partial, line...)
		if err == io.EOF {
			if newest <= c.segment {
				return false, nil
			}
			if err := c.open(c.segment+1, 0); err != nil {
				return false, err
			}
			continue
		}
		if err != nil {
			return false, err
		}
		var rec Record
		if err := json.Unmarshal(bytes.TrimSpace(c.partial), &rec); err != nil {
			return false, fmt.Errorf("read events: segment %d: %w", c.segment, err)
		}
		c.partial = c.partial[:0]
		if !o.Since.IsZero() && rec.TimeNano < o.Since.UnixNano() {
			continue
		}
		if !o.Until.IsZero() && rec.TimeNano > o.Until.UnixNano() {
			return true, nil
		}
		if err := fn(rec); err != nil {
			return false, err
		}
	}
}

func (c *cursor) newest() int {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	return c.j.first[len(c.j.first)-1]
}
