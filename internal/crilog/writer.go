package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// batchSize is how much formatted text is gathered before it is written. It is
// all the memory that a busy writer takes, unfinished lines aside.
const batchSize = 64 << 10

// Stats are figures about a Writer since it was opened, but for Lines.
type Stats struct {
	Lines uint64 // complete lines in the whole log, dropped ones included
	Bytes uint64 // bytes of output taken
	Lost  uint64 // lines that could not be written
	Err   error  // why the last lost line was lost
}

// Writer appends to the log in one directory. There must be only one at a
// time. Its methods may be called from several goroutines.
//
// Whatever Write was given in complete lines is in the file when it returns,
// so a writer that is killed loses nothing but unfinished lines. Nothing is
// synced to the disk: a log survives the death of any process, not that of the
// machine.
type Writer struct {
	opts Options

	// mu guards everything below.
	mu      sync.Mutex
	dir     *os.File
	closed  bool
	n       int      // number of the active segment
	log     *os.File // nil after a failed rotation
	idx     *os.File
	size    int64  // bytes in the active segment
	idxEnd  int64  // bytes in its index
	line    uint64 // complete lines so far in all segments, lost ones included
	stats   Stats
	failed  error     // first failure of the call under way
	retryAt time.Time // no rotation is tried again before

	out      []byte // records not yet written
	outLines uint64 // complete lines among them
	outOpen  uint8  // streams that were amidst a line before them
	// outEnds are the offsets in out behind the records that end a line which was counted as lost.
	outEnds  []int
	marks    []mark // not yet written
	nextMark int64  // offset from which on the next record gets a mark
	lostAt   *mark  // where lines are missing that no mark tells of yet; its line is the number before them

	tap    func(Batch) // nil: nobody wants batches
	opened []Batch     // what there was at first, and how OpenWriter has ended it, for the first tap; nil once more was written

	unfinished [Stderr + 1]unfinished
	stamp      []byte // time of the records being made
}

// unfinished is the last line of a stream while its newline is missing.
type unfinished struct {
	head []byte // not yet made a record
	open bool   // records with tag P were made
	lost bool   // a part is lost, and the line counted for that; its end is a line of its own, or lost with it
}

// OpenWriter opens the log in dir, which stays the caller's but must stay
// open. It repairs what a crash has left: a torn last record is cut off, and a
// line that was never finished is ended.
func OpenWriter(dir *os.File, o Options) (*Writer, error) {
	w := &Writer{opts: o.WithDefaults(), dir: dir}
	if w.opts.Disabled {
		return w, nil
	}
	if err := w.open(time.Now()); err != nil {
		_ = w.closeFiles()
		return nil, fmt.Errorf("open log in %q: %w", dir.Name(), err)
	}
	return w, nil
}

// Stats tells how the log does.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Lines = w.line
	return s
}

// Write takes what a process wrote at time t. The end of p after its last
// newline is kept until more comes, or Flush or Close. An error means that
// some lines were lost; they are counted and leave a gap that readers report.
// The writer goes on with the next Write.
func (w *Writer) Write(stream Stream, p []byte, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("write log: %w", os.ErrClosed)
	}
	w.stats.Bytes += uint64(len(p))
	if w.opts.Disabled {
		return nil
	}
	w.begin(t)
	if u := &w.unfinished[stream]; len(u.head) > 0 || u.open || u.lost {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.keep(stream, p, t)
			w.flushBatch()
			return w.failed
		}
		w.keep(stream, p[:i], t)
		if len(u.head) > 0 || u.open || !u.lost { // else only the newline is not lost
			w.record(stream, tagFull, u.head, t)
		}
		u.head, u.open, u.lost = u.head[:0], false, false
		p = p[i+1:]
	}
	w.keep(stream, w.lines(stream, p, t), t)
	w.flushBatch()
	return w.failed
}

// begin starts a batch of records made at time t.
func (w *Writer) begin(t time.Time) {
	w.failed = nil
	w.stamp = appendStamp(w.stamp[:0], t)
}

// fail notes why lines are lost.
func (w *Writer) fail(err error) {
	w.stats.Err = err
	if w.failed == nil {
		w.failed = fmt.Errorf("write log: %w", err)
	}
}

// lose counts n lines that will not be in the log, but have a number. The next
// record gets a mark, which shows the jump.
func (w *Writer) lose(n uint64) {
	w.loseHere(w.openStreams())
	w.line += n
	w.stats.Lost += n
	w.nextMark = 0
}

// loseHere notes where lines begin to be missing, and which streams are amidst one there.
func (w *Writer) loseHere(open uint8) {
	if w.lostAt == nil {
		w.lostAt = &mark{offset: w.size, open: open, line: w.line}
	}
}

// lines makes records of all complete lines in p and returns the rest.
func (w *Writer) lines(stream Stream, p []byte, t time.Time) []byte {
	prefix := make([]byte, 0, prefixSize)
	prefix = append(prefix, w.stamp...)
	prefix = append(prefix, ' ')
	prefix = append(prefix, stream.String()...)
	prefix = append(prefix, " F "...)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return p
		}
		line := p[:i+1]
		p = p[i+1:]
		if i > maxPart {
			w.split(stream, line[:i], t)
			continue
		}
		if !w.room(len(prefix)+len(line), t) {
			w.lose(1)
			continue
		}
		w.out = append(w.out, prefix...)
		w.out = append(w.out, line...)
		w.outLines++
		w.line++
	}
}

// split makes records of a complete line that is too long for one.
func (w *Writer) split(stream Stream, line []byte, t time.Time) {
	for len(line) > maxPart {
		w.record(stream, tagPartial, line[:maxPart], t)
		line = line[maxPart:]
	}
	w.record(stream, tagFull, line, t)
	w.unfinished[stream].open = false
}

// keep adds to the unfinished line of a stream. Full parts become records.
func (w *Writer) keep(stream Stream, p []byte, t time.Time) {
	u := &w.unfinished[stream]
	for len(u.head)+len(p) > maxPart {
		room := maxPart - len(u.head)
		u.head = append(u.head, p[:room]...)
		p = p[room:]
		w.record(stream, tagPartial, u.head, t)
		u.head = u.head[:0]
	}
	u.head = append(u.head, p...)
}

// record adds one record to the batch; begin was called with t.
func (w *Writer) record(stream Stream, tag string, content []byte, t time.Time) {
	n := stampSize + len(" stdout ") + len(tag) + 1 + len(content) + 1
	u := &w.unfinished[stream]
	if !w.room(n, t) {
		w.loseHere(w.openStreams())
		w.lose(u.lose())
		u.lost = tag == tagPartial
		return
	}
	b := append(w.out, w.stamp...)
	b = append(b, ' ')
	b = append(b, stream.String()...)
	b = append(b, ' ')
	b = append(b, tag...)
	b = append(b, ' ')
	b = append(b, content...)
	w.out = append(b, '\n')
	if tag == tagPartial {
		u.open = true
		return
	}
	w.outLines++
	w.line++
	if u.lost {
		w.outEnds = append(w.outEnds, len(w.out))
		u.lost = false
	}
}

// lose notes that a part of the line is lost, and returns how many lines are to be counted for that.
func (u *unfinished) lose() (lines uint64) {
	if !u.lost {
		lines = 1
	}
	u.open, u.lost = false, true
	return lines
}

// room makes sure that a record of n bytes fits into batch and segment, and
// sets the mark that it may be due. It is false when there is no segment to
// write to.
func (w *Writer) room(n int, t time.Time) bool {
	if len(w.out)+n > batchSize {
		w.flushBatch()
	}
	at := w.size + int64(len(w.out))
	if w.log == nil || w.opts.MaxSize > 0 && at > 0 && at+int64(n) > w.opts.MaxSize {
		w.flushBatch()
		if !w.rotate(t) {
			return false
		}
		at = w.size
	}
	if at >= w.nextMark {
		w.mark(at, t)
		w.nextMark = at + markEvery
	}
	if len(w.out) == 0 {
		w.outOpen = w.openStreams()
	}
	if w.out == nil {
		w.out = make([]byte, 0, batchSize)
	}
	return true
}

// mark adds a mark for the record at an offset. Behind lines that are lost there are two: the first
// one tells how many there are before, so that nobody looks for those among them.
func (w *Writer) mark(at int64, t time.Time) {
	if w.lostAt != nil {
		w.lostAt.time = t.UnixNano()
		w.marks = append(w.marks, *w.lostAt)
		w.lostAt = nil
	}
	w.marks = append(w.marks, mark{offset: at, open: w.openStreams(), line: w.line, time: t.UnixNano()})
}

// writeMarks writes the first marks, up to an offset. One that could not be written is tried again with the next.
func (w *Writer) writeMarks(upTo int64) error {
	var b []byte
	n := 0
	for ; n < len(w.marks) && w.marks[n].offset <= upTo; n++ {
		b = w.marks[n].append(b)
	}
	if n == 0 {
		return nil
	}
	if _, err := w.idx.WriteAt(b, w.idxEnd); err != nil {
		return err
	}
	w.idxEnd += int64(len(b))
	w.marks = slices.Delete(w.marks, 0, n)
	return nil
}

func (w *Writer) openStreams() uint8 {
	var open uint8
	for s := Stdout; s <= Stderr; s++ {
		if w.unfinished[s].open {
			open |= openBit(s)
		}
	}
	return open
}

// flushBatch writes the gathered records and their marks.
func (w *Writer) flushBatch() {
	if len(w.out) == 0 {
		return
	}
	// Who follows the file looks at the index first: there it must be known that lines are missing
	// before what is in the file. Another mark that is missing costs a reader time and nothing else.
	_ = w.writeMarks(w.size)
	n, err := 0, failpoint.Hit("crilog.write")
	if err == nil {
		n, err = w.log.Write(w.out)
	}
	if err != nil {
		w.dropBatch(n, err)
		return
	}
	w.wrote(w.out, w.line-w.outLines)
	w.out, w.outLines, w.outEnds = w.out[:0], 0, w.outEnds[:0]
	_ = w.writeMarks(w.size)
}

// wrote tells of records that are in the file; line is how many complete lines are before them.
func (w *Writer) wrote(records []byte, line uint64) {
	if w.tap != nil {
		w.tap(Batch{Segment: w.n, Offset: w.size, Line: line, Records: records})
	} else {
		w.opened = nil
	}
	w.size += int64(len(records))
}

// dropBatch forgets what did not come through of a batch of which so many bytes did: a log has
// whole records only. Those that are in the file stay, as somebody may have read them. A line of
// which a part was in the batch is lost; what may still come of it is a line of its own, but is
// not counted a second time if that is lost, too.
func (w *Writer) dropBatch(written int, err error) {
	kept := w.out[:bytes.LastIndexByte(w.out[:written], '\n')+1]
	if len(kept) < written {
		err = errors.Join(err, w.log.Truncate(w.size+int64(len(kept))))
	}
	w.fail(err)
	full, open := w.countKept(kept)
	lost := w.outLines - full
	for _, end := range w.outEnds {
		if end > len(kept) {
			lost--
		}
	}
	w.line -= w.outLines
	if len(kept) > 0 {
		w.wrote(kept, w.line)
		w.line += full
	}
	w.loseHere(open)
	for s := range w.unfinished {
		if w.unfinished[s].open {
			lost += w.unfinished[s].lose()
		}
	}
	w.marks = slices.DeleteFunc(w.marks, func(m mark) bool { return m.offset > w.size })
	w.out, w.outLines, w.outEnds = w.out[:0], 0, w.outEnds[:0]
	w.lose(lost)
}

// countKept counts the complete lines in the first records of a batch, and tells which streams are amidst one behind them.
func (w *Writer) countKept(kept []byte) (full uint64, open uint8) {
	open = w.outOpen
	for line := range bytes.Lines(kept) {
		switch rec, _ := parseRecord(line[:len(line)-1]); {
		case rec.partial:
			open |= openBit(rec.stream)
		default:
			open &^= openBit(rec.stream)
			full++
		}
	}
	return full, open
}

// Flush writes unfinished lines as parts of a line, so that readers see them.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.opts.Disabled {
		return nil
	}
	t := time.Now()
	w.begin(t)
	for s := Stdout; s <= Stderr; s++ {
		if u := &w.unfinished[s]; len(u.head) > 0 {
			w.record(s, tagPartial, u.head, t)
			u.head = u.head[:0]
		}
	}
	w.flushBatch()
	return w.failed
}

// Unfinished tells whether Flush would write something.
func (w *Writer) Unfinished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.unfinished[Stdout].head)+len(w.unfinished[Stderr].head) > 0
}

// Close ends unfinished lines as lines without a newline and closes the log.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	if w.opts.Disabled {
		return nil
	}
	now := time.Now()
	w.endLines(now)
	err := errors.Join(w.failed, w.markEnd(now), w.closeFiles())
	w.out = nil
	return err
}

// markEnd keeps the number of lines where the last ones were lost: no record shows
// the jump, and the next run would give their numbers to others.
func (w *Writer) markEnd(t time.Time) (err error) {
	if w.lostAt != nil {
		w.mark(w.size, t)
	}
	if w.idx == nil && len(w.marks) > 0 {
		if w.idx, err = openAt(w.dir, indexName(w.n), os.O_WRONLY); err != nil {
			return err
		}
	}
	return w.writeMarks(w.size)
}

func (w *Writer) endLines(t time.Time) {
	w.begin(t)
	for s := Stdout; s <= Stderr; s++ {
		if u := &w.unfinished[s]; len(u.head) > 0 || u.open {
			w.record(s, tagNoNewline, u.head, t)
			*u = unfinished{}
		}
	}
	w.flushBatch()
}

func (w *Writer) closeFiles() error {
	var errs []error
	for _, f := range []**os.File{&w.log, &w.idx} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}

// retryDelay is how long lines are dropped after a failed rotation before the
// next attempt, so that a full disk does not cost several system calls a line.
const retryDelay = time.Second

// rotate makes the next segment the active one and drops those that are too
// many. It is false when there is no active segment now.
func (w *Writer) rotate(t time.Time) bool {
	if w.log == nil && t.Before(w.retryAt) && w.retryAt.Sub(t) <= retryDelay {
		return false
	}
	w.markLast(t)
	err := w.closeFiles()
	if err == nil {
		err = w.create(w.n+1, t)
	}
	if err != nil {
		w.fail(fmt.Errorf("rotate: %w", err))
		w.retryAt = t.Add(retryDelay)
		return false
	}
	if err := w.prune(); err != nil {
		w.fail(fmt.Errorf("remove old segments: %w", err))
	}
	return true
}

// markLast keeps the number of lines before the end of a segment, which tells those that are missing there
// from those that are damaged, also when it is compressed.
func (w *Writer) markLast(t time.Time) {
	if w.log == nil {
		return // was done
	}
	last := mark{offset: w.size, open: w.openStreams(), line: w.line, time: t.UnixNano()}
	if w.lostAt != nil {
		last.open, last.line = w.lostAt.open, w.lostAt.line
	}
	w.marks = append(w.marks, last)
	_ = w.writeMarks(w.size) // without it, the next segment's index tells the number
}

// create makes segment n and sets it active; w.line must be right. The index
// comes first: whoever sees a segment can know its numbers.
func (w *Writer) create(n int, t time.Time) error {
	if err := removeSegment(w.dir, n); err != nil {
		return err
	}
	idx, err := openAt(w.dir, indexName(n), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	// With a mark, so that whoever begins here knows which lines began before, also as long as there is no record.
	header := mark{open: w.openStreams(), line: w.line, time: t.UnixNano()}.append(indexHeader(w.line, t))
	if err := failpoint.Hit("crilog.begin"); err != nil {
		idx.Close()
		return err
	}
	if _, err := idx.WriteAt(header, 0); err != nil {
		idx.Close()
		return err
	}
	log, err := openAt(w.dir, logName(n), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_APPEND)
	if err != nil {
		idx.Close()
		return err
	}
	w.n, w.log, w.idx = n, log, idx
	w.size, w.idxEnd, w.nextMark, w.marks, w.lostAt = 0, int64(len(header)), markEvery, w.marks[:0], nil
	return nil
}

// prune removes the segments beyond MaxFiles. It looks at the directory, not
// at its own count: a compressor may have brought back what was removed.
func (w *Writer) prune() error {
	list, err := listSegments(w.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range list {
		if s.n <= w.n-w.opts.MaxFiles {
			errs = append(errs, removeSegment(w.dir, s.n))
		}
	}
	return errors.Join(errs...)
}
