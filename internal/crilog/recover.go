package crilog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// open finds the newest segment and goes on with it, or begins the first one.
func (w *Writer) open(now time.Time) error {
	list, err := listSegments(w.dir)
	if err != nil {
		return err
	}
	if list = readable(list); len(list) == 0 {
		if err := w.create(1, now); err != nil {
			return err
		}
		w.beginRun(now)
		return nil
	}
	last := list[len(list)-1]
	w.n = last.n
	if !last.plain {
		// Rotated and compressed, and then the next one could not be made.
		end, err := w.endOf(last.n)
		if err != nil {
			return err
		}
		w.line = end.line
		if err := w.create(last.n+1, now); err != nil {
			return err
		}
		w.beginRun(now)
		return nil
	}
	if err := w.adopt(last.n); err != nil {
		return err
	}
	if err := w.prune(); err != nil {
		return err
	}
	w.tap = func(b Batch) {
		b.Records = bytes.Clone(b.Records)
		w.opened = append(w.opened, b)
	}
	w.tell()
	w.endLines(now) // of the run before
	w.tap = nil
	if w.failed == nil {
		w.beginRun(now)
	}
	return w.failed
}

// adopt makes the existing segment n the active one: it cuts off what is not a
// whole record, and finds the numbers to go on with.
func (w *Writer) adopt(n int) error {
	log, err := openAt(w.dir, logName(n), os.O_RDWR|unix.O_APPEND)
	if err != nil {
		return err
	}
	w.log = log
	st, err := log.Stat()
	if err != nil {
		return err
	}
	ix, err := loadIndex(w.dir, n, st.Size())
	if err != nil {
		return err
	}
	if !ix.known {
		if ix, err = w.rebuildIndex(n, st.Size()); err != nil {
			return err
		}
	}
	end, err := survey(log, ix.marks[len(ix.marks)-1], st.Size(), nil)
	for err == nil && len(ix.marks) > 1 && !behindNewline(log, end.offset) {
		// The last mark lies in what a crash has left, and the next record would
		// be one with that.
		ix.marks = ix.marks[:len(ix.marks)-1]
		end, err = survey(log, ix.marks[len(ix.marks)-1], st.Size(), nil)
	}
	if err != nil {
		return err
	}
	if end.offset < st.Size() {
		if err := log.Truncate(end.offset); err != nil {
			return fmt.Errorf("cut torn record off %q: %w", log.Name(), err)
		}
	}
	w.size, w.line = end.offset, end.line
	for s := Stdout; s <= Stderr; s++ {
		w.unfinished[s].open = end.open&openBit(s) != 0
	}
	return w.adoptIndex(n, ix)
}

// behindNewline tells whether a record may begin at an offset.
func behindNewline(f io.ReaderAt, offset int64) bool {
	var b [1]byte
	if offset == 0 {
		return true
	}
	_, err := f.ReadAt(b[:], offset-1)
	return err == nil && b[0] == '\n'
}

// adoptIndex writes the index anew as it was understood.
func (w *Writer) adoptIndex(n int, ix index) error {
	idx, err := openAt(w.dir, indexName(n), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	w.idx = idx
	first := ix.marks[0]
	b := indexHeader(first.line, time.Unix(0, first.time))
	if w.size > 0 {
		b = first.append(b)
	}
	for _, m := range ix.marks[1:] {
		b = m.append(b)
	}
	if _, err := idx.WriteAt(b, 0); err != nil {
		return err
	}
	w.idxEnd = int64(len(b))
	if w.size > 0 {
		w.nextMark = ix.marks[len(ix.marks)-1].offset + markEvery
	}
	return idx.Truncate(w.idxEnd)
}

// rebuildIndex makes an index for a segment that lost its own. The number of
// its first line is that after the last of the segment before, if that one is
// still there.
func (w *Writer) rebuildIndex(n int, size int64) (index, error) {
	var ix index
	start := mark{}
	end, err := w.endOf(n - 1)
	if err != nil {
		return index{}, err
	}
	start.line, start.open = end.line, end.open
	ix.known = true
	_, err = survey(w.log, start, size, func(m mark) { ix.marks = append(ix.marks, m) })
	if len(ix.marks) == 0 {
		ix.marks = append(ix.marks, start)
	}
	return ix, err
}

// endOf is the state behind the last record of a segment; zero: the segment is gone.
func (w *Writer) endOf(n int) (mark, error) {
	f, err := openAt(w.dir, logName(n), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		// Rotated and compressed: its last mark is that of its end.
		ix, err := loadIndex(w.dir, n, math.MaxInt64)
		if err != nil {
			return mark{}, err
		}
		return ix.marks[len(ix.marks)-1], nil
	}
	if err != nil {
		return mark{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return mark{}, err
	}
	ix, err := loadIndex(w.dir, n, st.Size())
	if err != nil {
		return mark{}, err
	}
	return survey(f, ix.marks[len(ix.marks)-1], st.Size(), nil)
}

// survey reads records of a segment from a mark up to size and returns the
// state at the end of the last whole one. Each time a mark is due, emit (which
// may be nil) gets it.
func survey(f io.ReaderAt, from mark, size int64, emit func(mark)) (mark, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, from.offset, size-from.offset), maxRecord)
	var stamps stampReader
	at, next := from, from.offset
	var passed int64 // bytes since the last record that are none
	var lost uint64  // lines among them
	amidst := false  // something too long for a record
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return at, nil // no whole record any more
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return at, fmt.Errorf("read log: %w", err)
		}
		rec, ok := parseRecord(bytes.TrimSuffix(line, []byte{'\n'}))
		var t time.Time
		if ok && err == nil {
			t, ok = stamps.parse(rec.stamp)
		}
		if !ok || err != nil || amidst {
			// Damage, if there is a record behind it, or else the end. Readers take it for one line, too.
			amidst = err != nil
			if !amidst {
				lost++
			}
			passed += int64(len(line))
			continue
		}
		if passed > 0 {
			at.offset, at.line, at.open = at.offset+passed, at.line+lost, 0
			passed, lost = 0, 0
			next = at.offset
		}
		if emit != nil && at.offset >= next {
			m := at
			m.time = t.UnixNano()
			emit(m)
			next = at.offset + markEvery
		}
		at.offset += int64(len(line))
		at.time = t.UnixNano()
		if rec.partial {
			at.open |= openBit(rec.stream)
		} else {
			at.open &^= openBit(rec.stream)
			at.line++
		}
	}
}
