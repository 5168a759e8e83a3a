package event

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// ReadOptions say which part of the journal is read.
type ReadOptions struct {
	Since time.Time // inclusive; zero: only events to come
	Until time.Time // inclusive; zero: for ever
	// After resumes behind the event of that number, in place of Since. 0 means that it is not used: a reader that has
	// seen nothing yet begins with a time.
	After uint64
	// NoFollow ends the Read at the last event that exists.
	NoFollow bool
}

// wants tells whether a record is in the part that is read, and whether it is beyond it.
func (o ReadOptions) wants(r *Record) (wanted, beyond bool) {
	if !o.Until.IsZero() && r.TimeNano > o.Until.UnixNano() {
		return false, true
	}
	if o.After > 0 {
		return r.Seq > o.After, false
	}
	return o.Since.IsZero() || r.TimeNano >= o.Since.UnixNano(), false
}

// Read calls fn for each event in order. It returns nil when Until has come, or at the last event with NoFollow; the
// cause of ctx when that ends first; os.ErrClosed when the journal was closed; ErrLagged; ErrAhead; or what fn returned.
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
	segment uint64
	seq     uint64 // of the last event that was read, or that was passed over in the segment
	file    *os.File
	buf     *bufio.Reader
	partial []byte // of a line that was not complete yet
}

func (j *Journal) cursor(o ReadOptions) (*cursor, error) {
	j.mu.Lock()
	segments, size, seq := slices.Clone(j.segments), j.size, j.seq
	j.mu.Unlock()
	c := &cursor{j: j}
	newest := segments[len(segments)-1]
	switch {
	case o.After > seq:
		return nil, fmt.Errorf("after %d: %w, which ends with %d", o.After, ErrAhead, seq)
	case o.After > 0 && o.After+1 < segments[0]:
		return nil, fmt.Errorf("after %d: %w: the first is now %d", o.After, ErrLagged, segments[0])
	case o.After > 0:
		i, found := slices.BinarySearch(segments, o.After+1)
		if !found {
			i--
		}
		return c, c.open(segments[i], 0)
	case o.Since.IsZero():
		err := c.open(newest, size)
		c.seq = seq
		return c, err
	}
	segment, offset, err := j.find(segments, o.Since.UnixNano())
	if err != nil {
		return nil, err
	}
	return c, c.open(segment, offset)
}

// find returns a place at or before the first event that is not older than since: in the newest segment that begins
// before that.
func (j *Journal) find(segments []uint64, since int64) (segment uint64, offset int64, err error) {
	for _, segment := range slices.Backward(segments) {
		begins, err := j.begins(segment)
		if errors.Is(err, os.ErrNotExist) {
			break // removed meanwhile, and all before it
		}
		if err != nil {
			return 0, 0, err
		}
		if begins > 0 && begins <= since {
			offset, err := j.seek(segment, since)
			return segment, offset, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[0], 0, nil
}

// begins is the time of a segment's first event; 0 for an empty one.
func (j *Journal) begins(segment uint64) (int64, error) {
	f, err := os.Open(j.path(segment))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	rec, _, err := goodLine(f, 0)
	if errors.Is(err, io.EOF) {
		return 0, nil
	}
	return rec.TimeNano, err
}

// ends is the time of a segment's last event; 0 for an empty one.
func (j *Journal) ends(segment uint64) (int64, error) {
	f, err := os.Open(j.path(segment))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	// Lines are rarely longer than the first attempt.
	for back := int64(16 << 10); ; back *= 16 {
		from, last := max(info.Size()-back, 0), int64(0)
		r := bufio.NewReader(io.NewSectionReader(f, from, 1<<62-from))
		for {
			line, err := r.ReadBytes('\n')
			if rec, bad := decodeLine(line); bad == nil {
				last = rec.TimeNano
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, err
			}
		}
		if last > 0 || from == 0 {
			return last, nil
		}
	}
}

// seek returns an offset at or before the first event of a segment that is not older than since, by halving.
func (j *Journal) seek(segment uint64, since int64) (int64, error) {
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
		rec, begin, err := goodLine(f, middle)
		switch {
		case errors.Is(err, io.EOF):
			high = middle
		case err != nil:
			return 0, err
		case rec.TimeNano >= since:
			high = middle
		default:
			low = begin
		}
	}
	return low, nil
}

// goodLine finds the first good line that begins at or behind offset. It returns io.EOF when there is none.
func goodLine(f *os.File, offset int64) (rec Record, begin int64, err error) {
	r := bufio.NewReader(io.NewSectionReader(f, offset, 1<<62-offset))
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return Record{}, 0, err
		}
		if rec, bad := decodeLine(line); bad == nil { // the rest of a line is not good
			return rec, offset, nil
		}
		offset += int64(len(line))
	}
}

func (c *cursor) open(segment uint64, offset int64) error {
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
	c.segment, c.seq, c.file, c.buf, c.partial = segment, segment-1, f, bufio.NewReaderSize(f, 16<<10), nil
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// drain hands over all events that exist. done tells that the last one was later than Until. Another one need not be followed
// by later ones only: the clock may have been set back.
func (c *cursor) drain(o ReadOptions, fn func(Record) error) (done bool, err error) {
	for {
		rec, err := c.next()
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return false, fmt.Errorf("read events: %w", err)
		}
		var wanted bool
		if wanted, done = o.wants(&rec); !wanted {
			continue
		}
		if err := fn(rec); err != nil {
			return false, err
		}
	}
}

// next returns the next event, or io.EOF when there is none yet.
func (c *cursor) next() (Record, error) {
	for {
		following, removed := c.following() // before reading: a segment that has a successor gets no more lines
		line, err := c.buf.ReadBytes('\n')
		c.partial = append(c.partial, line...)
		switch {
		case errors.Is(err, io.EOF) && following == 0:
			return Record{}, io.EOF
		case errors.Is(err, io.EOF) && removed && following != c.seq+1:
			return Record{}, ErrLagged
		case errors.Is(err, io.EOF):
			if err := c.open(following, 0); err != nil {
				return Record{}, err
			}
			continue
		case err != nil:
			return Record{}, err
		}
		rec, bad := decodeLine(c.partial)
		c.partial = c.partial[:0]
		if bad == nil {
			c.seq = rec.Seq
			return rec, nil
		}
		c.j.damaged.Add(1)
	}
}

// following is the segment after the cursor's; 0 when that is the newest. Removed tells that the cursor's own, which can
// still be read to its end, is not part of the journal any more.
func (c *cursor) following() (next uint64, removed bool) {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	i, found := slices.BinarySearch(c.j.segments, c.segment)
	switch {
	case !found:
		return c.j.segments[0], true
	case i+1 < len(c.j.segments):
		return c.j.segments[i+1], false
	}
	return 0, false
}
