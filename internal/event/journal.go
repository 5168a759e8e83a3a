// Package event keeps what happened: an append-only, numbered journal on disk that is followed while it grows.
//
// [Open] gives a [Journal]; [Journal.Publish] appends one event; [Journal.Read] replays events since a time or after a
// number and, if asked to, follows. Readers read the files, each at its own pace: nothing is buffered for them in memory,
// and one that sleeps loses nothing until the journal has gone through all its segments, which it is told (ErrLagged).
// Who asked for what happened travels in the context ([WithOrigin]) to where the event is published.
//
// # Format
//
// A directory of segments, `%020d.journal`, named by the number of their first event. Each line is a checksum, a space and
// one JSON object, the Docker event message with two more fields, the sequence number and the origin:
//
//	5a0f3c77 {"seq":17,"by":{"uid":1000,"pid":4242,"command":["docker","start","web"]},"Type":"container","Action":"start",…}
//
// The checksum is CRC-32C of the object, in hexadecimal. Sequence numbers grow by one, and times never go back.
//
// When a segment has grown to MaxSize, or is old, the next one begins. Segments beyond MaxSegments, and those whose
// newest event is older than MaxAge, are removed, but never the one that is being written.
//
// An event is with the kernel when Publish returns, so that it outlives the process; it is forced to the disk within a
// second. Where it cannot be written, to a full disk, it waits in memory with those after it, in order and with its
// number, and is written as soon as that works: readers get it late. More than MaxWaiting are dropped, which is told
// then by an event of type "daemon" and action "events-dropped", whose attributes are count, since and until.
// What a crash of the machine leaves behind the last good line is cut off by the next Open. A line that was
// damaged elsewhere is passed over and counted.
//
// Filters are the business of the caller.
package event

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/steady"
)

// ErrLagged ends a Read whose next event was removed before it came to it.
var ErrLagged = errors.New("events were removed before they were read")

// ErrAhead ends a Read after a sequence number that the journal has not come to: it is of another journal, or of events
// that a crash of the machine took.
var ErrAhead = errors.New("sequence number is ahead of the journal")

// Options bound the journal. The zero value means 8 segments of 4 MiB, which are some 100,000 events, and 90 days.
type Options struct {
	MaxSize     int64
	MaxSegments int
	MaxAge      time.Duration
	// MaxWaiting is how many events are kept in memory that could not be written; 0 means 2,000.
	MaxWaiting int
}

func (o Options) withDefaults() Options {
	if o.MaxSize <= 0 {
		o.MaxSize = 4 << 20
	}
	if o.MaxSegments <= 0 {
		o.MaxSegments = 8
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 90 * 24 * time.Hour
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 2000
	}
	return o
}

// Journal is an open journal. Its methods may be called from any goroutine.
type Journal struct {
	dir     string
	options Options
	readers atomic.Int64
	damaged atomic.Uint64
	sync    *syncer

	mu       sync.Mutex
	active   *os.File // last of segments, opened for append
	size     int64
	torn     bool     // it ends with half a line
	segments []uint64 // numbers of the first events of the segments that exist, ascending
	seq      uint64
	last     int64         // timeNano of the last event
	begun    int64         // timeNano of the active segment's first event; 0: it has none
	expired  int64         // when age was last looked at
	grown    chan struct{} // closed and replaced when an event was appended
	closed   bool
	buf      []byte
	backlog  backlog
	write    func(f *os.File, line []byte) (int, error) // File.Write, but in tests
	now      func() time.Time                           // time.Now, but in tests
}

// Open opens or creates the journal in dir.
func Open(dir string, o Options) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open event journal: %w", err)
	}
	j := &Journal{dir: dir, options: o.withDefaults(), grown: make(chan struct{}), write: (*os.File).Write, now: time.Now}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open event journal %q: %w", dir, err)
	}
	j.sync = startSyncer(j.active)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.expire(steady.Now().UnixNano()); err != nil {
		return nil, errors.Join(fmt.Errorf("open event journal %q: %w", dir, err), j.close())
	}
	return j, nil
}

func (j *Journal) path(segment uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%020d.journal", segment))
}

// load finds the segments, mends the last one and takes up the numbering.
func (j *Journal) load() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), ".journal"), 10, 64)
		if err == nil && n > 0 && filepath.Base(j.path(n)) == e.Name() {
			j.segments = append(j.segments, n)
		}
	}
	slices.Sort(j.segments)
	if len(j.segments) == 0 {
		return j.begin(1)
	}
	newest := j.segments[len(j.segments)-1]
	j.seq = newest - 1 // if it has no event
	f, err := os.OpenFile(j.path(newest), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := j.mend(f); err != nil {
		f.Close()
		return err
	}
	j.active = f
	return j.lastTime()
}

// mend cuts off what stands behind the last good line of the newest segment.
func (j *Journal) mend(f *os.File) error {
	r := bufio.NewReader(f)
	var at, good int64
	for {
		line, err := r.ReadBytes('\n')
		at += int64(len(line))
		if rec, bad := decodeLine(line); bad == nil {
			good = at
			j.seq, j.last = rec.Seq, rec.TimeNano
			if j.begun == 0 {
				j.begun = rec.TimeNano
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	j.size = good
	if good == at {
		return nil
	}
	return f.Truncate(good)
}

// lastTime looks for the last event's time in the segment before an empty one.
func (j *Journal) lastTime() error {
	for i := len(j.segments) - 2; i >= 0 && j.last == 0; i-- {
		var err error
		if j.last, err = j.ends(j.segments[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (j *Journal) begin(segment uint64) error {
	f, err := os.OpenFile(j.path(segment), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if j.active != nil {
		j.sync.replace(f)
	}
	j.active, j.size, j.begun, j.torn = f, 0, 0, false
	j.segments = append(j.segments, segment)
	return nil
}

// Publish appends an event that nobody asked for, see [Journal.PublishBy].
func (j *Journal) Publish(m events.Message) (Record, error) { return j.PublishBy(nil, m) }

// PublishBy appends an event, of which by says who asked for it, and wakes the followers. It sets the event's scope if
// empty and its time, which is now or, should the clock have gone back a little, just after the last event's. The event is with the
// kernel when PublishBy returns, and on the disk within a second.
func (j *Journal) PublishBy(by *Origin, m events.Message) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return Record{}, fmt.Errorf("append event: %w", os.ErrClosed)
	}
	now := j.clock()
	m.Time, m.TimeNano = now/1e9, now
	if m.Scope == "" {
		m.Scope = "local"
	}
	rec := Record{Seq: j.seq + 1, By: by, Message: m}
	line, err := encodeLine(j.buf[:0], &rec)
	if err != nil {
		return Record{}, fmt.Errorf("append event: %w", err)
	}
	j.buf = line
	j.drainBacklog()
	if j.backlog.empty() {
		if err = j.append(rec.Seq, line, now); err == nil {
			j.seq, j.last = rec.Seq, now
			j.wake()
			return rec, nil
		}
	}
	if !j.wait(rec.Seq, line, now, err) {
		return Record{}, fmt.Errorf("append event: %w", j.backlog.cause)
	}
	j.seq, j.last = rec.Seq, now
	return rec, nil
}

// backMost is how far the clock may have gone back for events to go on with the time of the last one. Those who have set
// theirs want to see the new time.
const backMost = int64(2 * time.Second)

// clock is the time of the next event.
func (j *Journal) clock() int64 {
	now := j.now().UnixNano()
	if now <= j.last && j.last-now < backMost {
		return j.last + 1
	}
	return now
}

// wake tells the followers that there is more.
func (j *Journal) wake() {
	close(j.grown)
	j.grown = make(chan struct{})
}

func (j *Journal) append(seq uint64, line []byte, now int64) error {
	if j.size >= j.options.MaxSize || j.begun > 0 && now-j.begun >= j.segmentAge() {
		if err := j.rotate(seq); err != nil {
			return err
		}
	}
	if since := now - j.expired; since >= int64(time.Minute) || since < 0 {
		if err := j.expire(steady.Now().UnixNano()); err != nil {
			return err
		}
		j.expired = now
	}
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	if err := failpoint.Hit("event.write"); err != nil {
		return err
	}
	n, err := j.write(j.active, line)
	j.size += int64(n)
	if err != nil {
		// Readers may have seen the half line: it stays, and the next one does not join it.
		j.torn = j.torn || n > 0
		return err
	}
	j.torn = false
	if j.begun == 0 {
		j.begun = now
	}
	j.sync.wanted()
	return nil
}

// segmentAge is when a new segment begins because the active one could not be removed in time.
func (j *Journal) segmentAge() int64 {
	return max(int64(j.options.MaxAge)/int64(j.options.MaxSegments), 1)
}

func (j *Journal) rotate(seq uint64) error {
	if err := j.begin(seq); err != nil {
		return err
	}
	for len(j.segments) > j.options.MaxSegments {
		if err := j.removeOldest(); err != nil {
			return err
		}
	}
	return nil
}

// expire removes the segments whose events are all too old.
func (j *Journal) expire(now int64) error {
	j.expired = now
	for len(j.segments) > 1 {
		newest, err := j.ends(j.segments[0])
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if now-newest < int64(j.options.MaxAge) {
			return nil
		}
		if err := j.removeOldest(); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) removeOldest() error {
	if err := os.Remove(j.path(j.segments[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	j.segments = j.segments[1:]
	return nil
}

// Close ends all Reads, forces the events to the disk and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	return j.close()
}

func (j *Journal) close() error {
	j.drainBacklog() // a last try
	j.stopRetry()
	j.closed = true
	close(j.grown)
	return errors.Join(j.backlogLost(), j.sync.close())
}

// Stats tell how the journal does.
type Stats struct {
	First, Last uint64 // numbers of the events that are kept; Last is 0 before the first event
	Segments    int
	Readers     int
	Damaged     uint64 // lines that readers passed over
	Waiting     int    // events in memory that could not be written
	Dropped     uint64 // events that could not even be kept there, and of which the journal does not tell yet
}

// Stats tell how the journal does.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Stats{First: j.segments[0], Last: j.seq, Segments: len(j.segments), Readers: j.Readers(), Damaged: j.damaged.Load(), Waiting: len(j.backlog.lines), Dropped: j.backlog.dropped}
}

// Bounds are the journal's, with the defaults filled in.
func (j *Journal) Bounds() Options { return j.options }

// Readers is the number of Reads under way.
func (j *Journal) Readers() int { return int(j.readers.Load()) }
