package crilog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// locate finds where to begin and goes there. The log may be empty; then the
// first segment that appears is read from its start.
func (r *reader) locate(ctx context.Context) error {
	list, err := r.findEnd(ctx)
	if err != nil || r.newest == nil {
		return err
	}
	if r.opts.Tail < 0 && r.opts.Since.IsZero() && r.after == 0 {
		return nil // next begins with the oldest, and counts what is missing
	}
	at := cursor{}
	if !r.opts.Since.IsZero() {
		if at, err = r.seekTime(list); err != nil {
			return err
		}
	}
	if r.opts.Tail >= 0 {
		tail, err := r.seekTail(list)
		if err != nil {
			at.closeSource()
			return err
		}
		if tail.after(at) {
			at, tail = tail, at
		}
		tail.closeSource()
	}
	if r.after > 0 {
		line, err := r.seekLine(list)
		if err != nil {
			at.closeSource()
			return err
		}
		if !at.after(line) {
			at, line = line, at
		}
		line.closeSource()
	}
	if at.short && r.opts.Tail < 0 {
		at.closeSource() // all there is, and opts.Live may hold more than the files
		return nil
	}
	if at.src == nil {
		return nil
	}
	return r.begin(at)
}

// findEnd opens what is the newest segment now, so that it cannot be rotated away
// before it is read, and lists those up to it. Without one the log is empty.
func (r *reader) findEnd(ctx context.Context) ([]segmentFiles, error) {
	for {
		list, err := listSegments(r.dir)
		if err != nil {
			return nil, err
		}
		gone := false
		for i, s := range slices.Backward(list) {
			src, err := r.openSource(s.n)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, errDamaged) {
				gone = gone || s.plain
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read log: %w", err)
			}
			r.newest = src
			r.end, err = src.size()
			return list[:i+1], err
		}
		if !gone {
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// begin starts to read at a mark in the middle of the log.
func (r *reader) begin(at cursor) error {
	m := at.src.index.marks[at.mark]
	r.skip = at.skip
	r.line = m.line
	if at.src.index.known && at.short {
		r.line = 0 // all before this is missing, and is to be told
	}
	if err := r.enter(at.src, m, at.mark); err != nil {
		return err
	}
	for s := Stdout; s <= Stderr; s++ {
		if m.open&openBit(s) == 0 || !r.opts.wants(s) {
			continue
		}
		head, err := r.headBefore(at, s)
		if err != nil {
			return err
		}
		r.joins[s].head = head
	}
	return nil
}

// cursor is a mark in a segment; a nil src is before all of them.
type cursor struct {
	src   *source
	mark  int
	skip  uint64 // wanted lines to skip from there
	short bool   // more was wanted than there is
}

func (c cursor) after(d cursor) bool {
	if c.src == nil || d.src == nil {
		return d.src == nil
	}
	if c.src.n != d.src.n {
		return c.src.n > d.src.n
	}
	return c.mark >= d.mark
}

func (c cursor) closeSource() {
	if c.src != nil {
		c.src.close()
	}
}

// place is a mark, and what is behind it up to the next one.
type place struct {
	segment, mark int
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.segment, q.segment), cmp.Compare(p.mark, q.mark))
}

// eachMark goes through the marks of all segments in order, until fn is false. Of a segment without an index the only
// mark has no number and no time.
func (r *reader) eachMark(list []segmentFiles, fn func(p place, m mark, known bool) bool) error {
	for _, s := range list {
		ix, err := loadIndex(r.dir, s.n, math.MaxInt64)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		for i, m := range ix.marks {
			if !fn(place{s.n, i}, m, ix.known) {
				return nil
			}
		}
	}
	return nil
}

// seekTime finds the mark before the first one whose record is not before Since. Later ones may be before it, as the
// clock may have been set back. What is skipped from there on is skipped line by line.
func (r *reader) seekTime(list []segmentFiles) (cursor, error) {
	since := r.opts.Since.UnixNano()
	var from place
	err := r.eachMark(list, func(p place, m mark, known bool) bool {
		if known && m.time >= since {
			return false
		}
		if known || p.segment == list[0].n {
			from = p
		}
		return true
	})
	if err != nil {
		return cursor{}, err
	}
	return r.seek(list, func(n, i int, _ mark, _ bool) bool { return place{n, i}.compare(from) <= 0 })
}

// beyond is called for a line after Until. The clock may have been set back behind it: the read ends when that cannot
// be any more, as a mark tells, or at the first such line if it follows.
func (r *reader) beyond() error {
	if r.opts.Follow {
		return errEnough
	}
	here := place{r.src.n, r.mark - 1}
	if r.until == nil {
		until := here
		list, err := listSegments(r.dir)
		if err == nil {
			var last place
			var time int64
			err = r.eachMark(list, func(p place, m mark, known bool) bool {
				if known && m.time < time && last.compare(until) > 0 {
					until = last // between the two it was set back
				}
				if (!known || m.time <= r.opts.Until.UnixNano()) && p.compare(until) > 0 {
					until = p
				}
				last, time = p, m.time
				return true
			})
		}
		if err != nil {
			return err
		}
		r.until = &until
	}
	if here.compare(*r.until) > 0 {
		return errEnough
	}
	return nil
}

// seekLine finds the last mark that has no line behind r.after before it.
func (r *reader) seekLine(list []segmentFiles) (cursor, error) {
	return r.seek(list, func(_, _ int, m mark, known bool) bool { return known && m.line <= r.after })
}

// seek finds the last mark that is early enough, by its segment, its place there and whether it comes from an index. If
// there is none, it is the beginning of the oldest segment.
func (r *reader) seek(list []segmentFiles, early func(segment, i int, m mark, known bool) bool) (cursor, error) {
	var oldest cursor
	for i := len(list) - 1; i >= 0; i-- {
		src, err := r.openSource(list[i].n)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errDamaged) {
			continue
		}
		oldest.closeSource()
		if err != nil {
			return cursor{}, fmt.Errorf("read log: %w", err)
		}
		oldest = cursor{src: src, short: true}
		for n, m := range slices.Backward(src.index.marks) {
			if early(list[i].n, n, m, src.index.known) {
				return cursor{src: src, mark: n}, nil
			}
		}
	}
	return oldest, nil
}

// seekTail finds the mark from which on there are at least Tail wanted lines,
// and how many of them are too many.
func (r *reader) seekTail(list []segmentFiles) (cursor, error) {
	need := uint64(r.opts.Tail)
	var at cursor
	for i := len(list) - 1; i >= 0; i-- {
		src, err := r.openSource(list[i].n)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			at.closeSource()
			return cursor{}, fmt.Errorf("read log: %w", err)
		}
		at.closeSource()
		at = cursor{src: src}
		end, err := r.sizeOf(src)
		if err != nil {
			src.close()
			return cursor{}, err
		}
		marks := src.index.marks
		for m := len(marks) - 1; m >= 0; m-- {
			known := src.index.known
			if known && marks[m].line >= r.last {
				end = marks[m].offset
				continue
			}
			n, err := r.count(cursor{src: src, mark: m}, end, i == len(list)-1 && m == len(marks)-1)
			if err != nil {
				src.close()
				return cursor{}, err
			}
			if n >= need {
				at.mark, at.skip = m, n-need
				return at, nil
			}
			if known && marks[m].line <= r.after {
				at.mark = m
				return at, nil // there are no more
			}
			need -= n
			end = marks[m].offset
		}
		at.mark = 0
	}
	at.short = true
	return at, nil
}

// count counts wanted lines that end between a mark and an offset. A line that
// is unfinished at the end of the log is one, too.
func (r *reader) count(at cursor, to int64, last bool) (uint64, error) {
	from := at.src.index.marks[at.mark]
	var heads [Stderr + 1][]byte
	var open, cut [Stderr + 1]bool // cut: heads lacks what is before the mark
	var here [Stderr + 1]bool      // some of an open line is behind the mark
	for s := Stdout; s <= Stderr; s++ {
		open[s] = from.open&openBit(s) != 0 && r.opts.wants(s)
		cut[s] = open[s]
	}
	var headErr error
	var n uint64
	line := from.line
	// unwanted tells, with the last part of a line, whether it is left out.
	unwanted := func(s Stream, part []byte) bool {
		if line <= r.after || line > r.last {
			return true
		}
		if r.opts.Match == nil {
			return false
		}
		if cut[s] {
			// Only here, where the line ends: one that goes on over many marks
			// would else be read from its beginning at each.
			before, err := r.headBefore(at, s)
			headErr = errors.Join(headErr, err)
			heads[s] = append(before, heads[s]...)
		}
		if len(heads[s]) > 0 {
			part = append(heads[s], part...)
		}
		return !r.opts.Match(part[:min(len(part), joinMax)])
	}
	err := eachRecord(at.src, from.offset, to, func(rec record, _ []byte) {
		if !rec.partial {
			line++
		}
		if !r.opts.wants(rec.stream) {
			return
		}
		open[rec.stream], here[rec.stream] = rec.partial, rec.partial
		if rec.partial {
			if r.opts.Match != nil && len(heads[rec.stream]) < joinMax {
				heads[rec.stream] = append(heads[rec.stream], rec.content...)
			}
			return
		}
		if !unwanted(rec.stream, rec.content) {
			n++
		}
		heads[rec.stream], cut[rec.stream] = heads[rec.stream][:0], false
	})
	if last {
		line++
		for s := Stdout; s <= Stderr; s++ {
			if open[s] && !here[s] {
				before, err := r.headBefore(at, s)
				headErr = errors.Join(headErr, err)
				open[s] = len(before) > 0 // else it was rotated away, and the rest has not come yet
			}
			if open[s] && !unwanted(s, nil) {
				n++
			}
		}
	}
	return n, errors.Join(err, headErr)
}

// headBefore collects the parts of stream s's line that lie before a cursor.
func (r *reader) headBefore(at cursor, s Stream) ([]byte, error) {
	most := headMost
	head, begun, err := headIn(at.src, at.mark, at.src.index.marks[at.mark].offset, s, &most)
	for n := at.src.n - 1; err == nil && !begun && most > 0; n-- {
		src, oerr := r.openSource(n)
		if errors.Is(oerr, os.ErrNotExist) || errors.Is(oerr, errDamaged) {
			return head, nil // the beginning is gone
		}
		if oerr != nil {
			return nil, fmt.Errorf("read log: %w", oerr)
		}
		var part []byte
		size, serr := src.size()
		if serr == nil {
			part, begun, serr = headIn(src, len(src.index.marks), size, s, &most)
		}
		src.close()
		head, err = append(part, head...), serr
	}
	return head, err
}

// headIn collects what the intervals before mark m, the last of which ends at
// to, have of the line of stream s that is open there. begun tells whether that
// is the whole of it. most is how many intervals may be searched yet.
func headIn(src *source, m int, to int64, s Stream, most *int) (head []byte, begun bool, err error) {
	marks := src.index.marks
	for m--; m >= 0 && *most > 0; m-- {
		*most--
		var part []byte
		err := eachRecord(src, marks[m].offset, to, func(rec record, _ []byte) {
			if rec.stream != s {
				return
			}
			if rec.partial {
				part = append(part, rec.content...)
			} else {
				part, begun = part[:0], true
			}
		})
		if err != nil {
			return nil, false, err
		}
		if len(part) == 0 && !begun {
			*most -= headIdle - 1
		}
		head = append(part, head...)
		if begun || marks[m].open&openBit(s) == 0 {
			return head, true, nil
		}
		to = marks[m].offset
	}
	return head, false, nil
}

// eachRecord calls fn for the intact records between two offsets that are
// starts of records. A damaged compressed segment ends early.
func eachRecord(src *source, from, to int64, fn func(rec record, line []byte)) error {
	buf := make([]byte, min(readSize, max(to-from, 0)))
	for from < to {
		n, err := src.reader.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			if src.packed {
				return nil
			}
			return fmt.Errorf("read log: %w", err)
		}
		used := 0
		for {
			i := bytes.IndexByte(buf[used:n], '\n')
			if i < 0 {
				break
			}
			line := buf[used : used+i]
			used += i + 1
			if rec, ok := parseRecord(line); ok {
				fn(rec, line)
			}
		}
		if used == 0 {
			if n < len(buf) {
				return nil
			}
			used = n // longer than any record
		}
		from += int64(used)
	}
	return nil
}
