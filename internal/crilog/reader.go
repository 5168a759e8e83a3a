package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ReadOptions says which lines are wanted. At least one stream must be.
type ReadOptions struct {
	Stdout, Stderr bool
	// Since leaves out lines before it, Until those after it; zero times leave
	// out nothing. Since is looked at up to the first line that is not before
	// it only: the clock may have been set back. Therefore there may be lines up
	// to Until behind one after it, but a follower ends there.
	Since, Until time.Time
	// Tail is how many of the last lines are wanted, of the wanted streams and
	// before Since and Until are looked at; negative means all.
	Tail int
	// After leaves out the lines up to and with this number: where an earlier
	// read ended, see Entry.Number.
	After uint64
	// Run leaves out what other runs have written; 0 means all. It is ErrNoRun
	// if the log does not know the run. Tail counts lines of the run.
	Run int
	// Match leaves out lines for which it is false; nil: none. It gets a line
	// without its newline, and of one that is longer than 1 MiB so much. Tail
	// counts lines that match.
	Match func(line []byte) bool
	// Follow goes on with lines as they are written.
	Follow bool
	// Whole keeps a line back until it is complete, also while following.
	Whole bool
	// Positions has entries without a line and without a loss, while following,
	// that tell by their Number how far the log has been read.
	Positions bool
	// Unpack opens the text of a compressed segment of so many bytes. It is
	// left to the caller so that a shim, which writes only, holds no decoder.
	Unpack func(file io.ReaderAt, size int64) (Unpacked, error)
	// Live is what is being written, for a follower; nil: it reads the files
	// only. What is not in one of them when its turn has come is dropped.
	Live Live
}

func (o ReadOptions) wants(s Stream) bool {
	return s == Stdout && o.Stdout || s == Stderr && o.Stderr
}

// Entry is one line.
type Entry struct {
	// Time is when the line was complete.
	Time   time.Time
	Stream Stream
	// Line is the line with its newline, if it had one. It is valid until the
	// function that got it returns. It is nil in an entry that only tells of
	// dropped lines.
	Line []byte
	// Continued says that the line goes on where the last entry of the same
	// stream, which had no newline, ended: a line longer than 1 MiB, or one
	// that was followed while it was being written.
	Continued bool
	// Dropped is how many lines are missing right before this one: rotated
	// away, or lost by a full disk or a damaged file. Where only one stream is
	// wanted it may count lines of the other one.
	Dropped uint64
	// Damaged says that the file was damaged where some of those lines were.
	Damaged bool
	// Parts says that parts are missing right before this one of a line that was
	// counted as dropped where the first of its parts were missing.
	Parts bool
	// Number is how many lines of the log end with this one. Of a line that is
	// not complete it is that of the complete ones before.
	Number uint64
	// Run is the number of the run that wrote the line; 0: not known.
	Run int
}

const (
	readSize = 256 << 10
	// joinMax is the most that is put together of one line.
	joinMax = 1 << 20
	// headMost is how many intervals are searched for the beginning of a
	// line that was amidst being written at a mark, and so bounds it to 32 MiB.
	// One in which there is nothing of it counts as headIdle.
	headMost = 256
	headIdle = 4
)

// errEnough ends a read that has reached Until.
var errEnough = errors.New("until is reached")

// Read calls fn for the wanted lines of the log in dir, oldest first. Without
// Follow it returns when it has seen all that was there. With Follow it
// returns when ended is closed and everything is read; a nil ended never
// closes. It returns nil also when Until is passed; the error of fn, if that
// is not nil; and the cause of ctx's end.
//
// A damaged record or segment is passed over and counted as dropped. The log
// may be written, rotated and compressed meanwhile.
func Read(ctx context.Context, dir string, o ReadOptions, ended <-chan struct{}, fn func(Entry) error) error {
	if !o.Stdout && !o.Stderr {
		return errors.New("read log: neither stdout nor stderr is wanted")
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read log in %q: %w", dir, err)
	}
	r := &reader{dir: os.NewFile(uintptr(fd), dir), opts: o, fn: fn, after: o.After, last: math.MaxUint64, limit: math.MaxInt}
	defer r.close()
	if err = r.findRun(); err == nil {
		err = r.run(ctx, ended)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// reader is one read under way.
type reader struct {
	dir  *os.File
	opts ReadOptions
	fn   func(Entry) error

	src    *source // nil before the first segment
	offset int64   // of the next record in src
	line   uint64  // complete lines before offset
	mark   int     // index of the next mark in src
	limit  int     // segments behind it are not entered
	buf    []byte

	newest *source // that there was in the beginning; nil while following
	end    int64   // what there was of it

	batch uint64 // number of the last batch of opts.Live
	fed   bool   // records are those of a batch
	// filesOnly says that opts.Live is not waited for any more.
	filesOnly bool

	after    uint64 // lines up to this number are left out
	last     uint64 // and those behind it
	runs     []runStart
	told     uint64 // the last position
	placed   bool   // there was one
	runsSize int64  // of the file that runs were read from
	skip     uint64 // wanted lines to leave out yet, for Tail
	dropped  uint64 // not yet told
	parted   uint64 // the last line that was counted for parts of it, see torn
	parts    bool   // more of it is missing, which is not yet told
	damaged  bool   // some of these
	matched  bool   // Since was reached
	until    *place // the last one that may have lines up to Until behind one that is not; nil: there was none yet
	discard  bool   // amidst something too long for a record
	counted  int64  // up to this offset of src, what is damaged has been counted
	stamps   stampReader
	joins    [Stderr + 1]join
}

// join is a line being put together.
type join struct {
	head   []byte
	begun  bool // some of the line was handed out, or found not to match
	reject bool // it does not match
	time   time.Time
}

func (r *reader) close() {
	if r.src != nil {
		r.src.close()
	}
	r.forgetEnd()
	r.dir.Close()
}

// forgetEnd has the log read on behind the end that it had in the beginning.
func (r *reader) forgetEnd() {
	if r.newest != nil {
		r.newest.close()
		r.newest = nil
	}
}

// findRun learns where runs begin.
func (r *reader) findRun() error {
	var err error
	if r.runs, err = loadRuns(r.dir); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if r.opts.Run == 0 {
		return nil
	}
	after, last, err := linesOf(r.runs, r.opts.Run)
	if err != nil {
		return err
	}
	r.after, r.last = max(r.after, after), last
	return nil
}

// learnRuns looks for runs that have begun since.
func (r *reader) learnRuns() error {
	var st unix.Stat_t
	// There need not be any: the size is 0 then.
	_ = unix.Fstatat(int(r.dir.Fd()), runsName, &st, unix.AT_SYMLINK_NOFOLLOW)
	if st.Size == r.runsSize {
		return nil
	}
	r.runsSize = st.Size
	var err error
	if r.runs, err = loadRuns(r.dir); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if r.opts.Run != 0 {
		if _, last, err := linesOf(r.runs, r.opts.Run); err == nil {
			r.last = last
		}
	}
	return nil
}

func (r *reader) run(ctx context.Context, ended <-chan struct{}) error {
	if !r.opts.Follow {
		return r.once(ctx)
	}
	return r.follow(ctx, ended)
}

// enough ends the read behind the last line that is wanted.
func (r *reader) enough() error {
	if err := r.tellDropped(); err != nil {
		return err
	}
	return errEnough
}

// telling adds to an entry what is missing right before it.
func (r *reader) telling(e Entry) Entry {
	e.Dropped, e.Damaged, e.Parts = r.dropped, r.damaged, r.parts
	r.dropped, r.damaged, r.parts = 0, false, false
	return e
}

// tellDropped tells of what was dropped after the last line.
func (r *reader) tellDropped() error {
	if r.dropped == 0 && !r.parts {
		return nil
	}
	return r.fn(r.telling(Entry{Number: r.line, Run: r.runOf(true)}))
}

func (r *reader) once(ctx context.Context) error {
	if r.opts.Tail == 0 {
		return nil
	}
	if err := r.locate(ctx); err != nil || r.newest == nil {
		return err
	}
	if err := r.readAll(ctx); err != nil {
		return err
	}
	return r.flush(true)
}

// readAll reads to the present end of the log, or without following to the one
// that it had in the beginning: its writer may be faster than its reader.
func (r *reader) readAll(ctx context.Context) error {
	for {
		if err := r.reopen(); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if r.src != nil {
			if err := r.readSource(ctx); err != nil {
				return err
			}
		}
		more, err := r.next(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// next goes on to the segment after the current one, once that is complete.
func (r *reader) next(ctx context.Context) (bool, error) {
	list, err := listSegments(r.dir)
	if err != nil {
		return false, err
	}
	if r.newest != nil {
		list = slices.DeleteFunc(list, func(s segmentFiles) bool { return s.n >= r.newest.n })
		list = append(list, segmentFiles{n: r.newest.n})
	}
	for _, s := range list {
		if r.src != nil && s.n <= r.src.n || s.n > r.limit {
			continue
		}
		if r.src != nil {
			// There is a newer one, so nothing more will come: the rest.
			if err := r.readSource(ctx); err != nil {
				return false, err
			}
		}
		if taken, err := r.bridge(ctx, s.n); err != nil || taken {
			return taken, err
		}
		src, err := r.openSource(s.n)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errDamaged) {
			continue // dropped this moment, or damaged: the numbers will tell
		}
		if err != nil {
			return false, fmt.Errorf("read log: %w", err)
		}
		m := src.index.marks[0]
		if !r.isNext(s.n) && src.index.known {
			if err := r.torn(m.line, m.open); err != nil {
				src.close()
				return false, err
			}
		}
		return true, r.enter(src, m, 0)
	}
	return false, nil
}

// isNext tells whether segment n begins where the reader is, once that has read all of the current one.
func (r *reader) isNext(n int) bool {
	if r.src == nil {
		return n == 1
	}
	return !r.src.live && n == r.src.n+1
}

// torn is called where something may be missing before a line, and nothing but parts of lines if that is the next one.
// Open tells which streams are amidst one behind it. A line of which parts are missing in several places is counted once.
func (r *reader) torn(line uint64, open uint8) error {
	var wanted uint8
	for s := Stdout; s <= Stderr; s++ {
		if r.opts.wants(s) {
			wanted |= openBit(s)
		}
	}
	if line > r.line || open&wanted == 0 {
		return nil // the numbers tell
	}
	err := r.endJoins()
	switch {
	case r.line < r.after || r.line >= r.last:
	case r.line+1 == r.parted:
		r.parts = true
	default:
		r.parted = r.line + 1
		r.dropped++
	}
	return err
}

// enter makes src the current segment, from mark i on.
func (r *reader) enter(src *source, m mark, i int) error {
	if r.src != nil {
		r.src.close()
	}
	r.src, r.offset, r.mark, r.discard, r.counted = src, m.offset, i+1, false, 0
	if !src.index.known {
		return nil
	}
	return r.arrive(m.line)
}

// arrive compares the count of lines with the number that the next one has.
func (r *reader) arrive(line uint64) error {
	if line <= r.line {
		return nil
	}
	if err := r.learnRuns(); err != nil {
		return err
	}
	err := r.endJoins()
	r.drop(line - r.line)
	return err
}

// sizeOf is how much of a segment is to be read.
func (r *reader) sizeOf(src *source) (int64, error) {
	if src == r.newest {
		return r.end, nil
	}
	size, err := src.size()
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	return size, nil
}

// readSource hands out what there is of the current segment.
func (r *reader) readSource(ctx context.Context) error {
	size, err := r.sizeOf(r.src)
	if err != nil {
		return err
	}
	if r.buf == nil {
		r.buf = make([]byte, readSize)
	}
	for r.offset < size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.src.reader.ReadAt(r.buf[:min(int64(len(r.buf)), size-r.offset)], r.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			if r.src.packed {
				r.offset = size // damaged; the next segment's number tells how much
				return nil
			}
			return fmt.Errorf("read log: %w", err)
		}
		// A run is noted before its first line is written, and lines that are lost before the next one.
		if err := errors.Join(r.learnRuns(), r.src.learnMarks(r.dir, size)); err != nil {
			return err
		}
		used, err := r.records(r.buf[:n])
		if err != nil {
			return err
		}
		if used == 0 && n < len(r.buf) {
			return nil // a record that is being written
		}
		if used == 0 {
			r.discard, used = true, n // no record is as long
		}
		r.offset += int64(used)
	}
	if err := r.src.learnMarks(r.dir, size); err != nil {
		return err
	}
	return r.passMarks(r.offset)
}

// records takes all whole records from b and tells how much that was.
func (r *reader) records(b []byte) (int, error) {
	used := 0
	nuls := !r.fed && bytes.IndexByte(b, 0) >= 0
	for {
		i := bytes.IndexByte(b[used:], '\n')
		if i < 0 {
			return used, nil
		}
		if err := r.passMarks(r.offset + int64(used)); err != nil {
			return used, err
		}
		line := b[used : used+i+1]
		used += i + 1
		rec, ok := parseRecord(line[:i])
		var t time.Time
		if ok {
			t, ok = r.stamps.parse(rec.stamp)
		}
		if ok && nuls && !r.discard && bytes.IndexByte(rec.content, 0) >= 0 {
			holed, err := r.holed(rec, r.offset+int64(used))
			if err != nil {
				return used, err
			}
			ok = !holed
		}
		if r.discard || !ok {
			r.discard = false
			if err := r.damage(r.offset + int64(used)); err != nil {
				return used, err
			}
			continue
		}
		if err := r.record(rec, t, line); err != nil {
			return used, err
		}
	}
}

// passMarks looks for a gap at a mark.
func (r *reader) passMarks(at int64) error {
	marks := r.src.index.marks
	for r.mark < len(marks) && marks[r.mark].offset <= at {
		m := marks[r.mark]
		r.mark++
		if m.offset == at {
			if err := r.arrive(m.line); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop counts lines that are not there. Those that nobody wants are no loss.
func (r *reader) drop(n uint64) {
	from, to := max(r.line, r.after), min(r.line+n, r.last)
	if from < to {
		r.dropped += to - from
	}
	r.line += n
}

// record takes one record of time t; line is the whole of it, newline included.
func (r *reader) record(rec record, t time.Time, line []byte) error {
	if !rec.partial {
		r.line++
		if r.line > r.last {
			return r.enough()
		}
	}
	if !r.opts.wants(rec.stream) {
		return nil
	}
	j := &r.joins[rec.stream]
	if !rec.partial && r.line <= r.after {
		*j = join{head: j.head[:0]}
		return nil
	}
	content := line[len(line)-1-len(rec.content):]
	if rec.partial || rec.bare {
		content = rec.content
	}
	if rec.partial {
		j.head, j.time = append(j.head, content...), t
		if len(j.head) < joinMax || r.skip > 0 || r.line < r.after {
			return nil
		}
		return r.handOut(rec.stream, t, j.head, false)
	}
	if len(j.head) > 0 {
		j.head = append(j.head, content...)
		content = j.head
	}
	if r.skip > 0 {
		if r.matches(j, content) {
			r.skip--
		}
		*j = join{head: j.head[:0]}
		return nil
	}
	return r.handOut(rec.stream, t, content, true)
}

// matches asks Match about a line of which nothing was asked yet.
func (r *reader) matches(j *join, line []byte) bool {
	if r.opts.Match == nil {
		return true
	}
	if !j.begun {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		j.reject = !r.opts.Match(line[:min(len(line), joinMax)])
	}
	return !j.reject
}

// handOut gives one line, or some of one, to the caller.
func (r *reader) handOut(stream Stream, t time.Time, line []byte, complete bool) error {
	j := &r.joins[stream]
	wanted := r.matches(j, line)
	continued := j.begun
	j.begun = !complete
	j.head = j.head[:0]
	if cap(j.head) > joinMax {
		defer func() { j.head = nil }()
	}
	if !wanted {
		return nil
	}
	if !r.matched && t.Before(r.opts.Since) {
		return nil
	}
	r.matched = true
	if !r.opts.Until.IsZero() && t.After(r.opts.Until) {
		return r.beyond()
	}
	return r.fn(r.telling(Entry{Time: t, Stream: stream, Line: line, Continued: continued, Number: r.line, Run: r.runOf(complete)}))
}

// runOf is the run of the line that is being handed out.
func (r *reader) runOf(complete bool) int {
	number := r.line
	if !complete {
		number++
	}
	return runAt(r.runs, number)
}

// endJoins hands out lines whose end is lost.
func (r *reader) endJoins() error {
	for s := Stdout; s <= Stderr; s++ {
		if j := &r.joins[s]; len(j.head) > 0 {
			if err := r.unfinished(s, true); err != nil {
				return err
			}
		}
		r.joins[s].begun = false
	}
	return nil
}

// flush hands out what there is of unfinished lines when there is nothing else
// to read. In the end it also tells what was dropped after the last line.
func (r *reader) flush(end bool) error {
	for s := Stdout; s <= Stderr; s++ {
		if len(r.joins[s].head) > 0 && (end || r.skip == 0 && r.opts.Match == nil && !r.opts.Whole) {
			if err := r.unfinished(s, end); err != nil {
				return err
			}
		}
	}
	if end {
		return r.tellDropped()
	}
	if r.opts.Positions && (r.line > r.told || !r.placed) {
		r.told, r.placed = r.line, true
		return r.fn(Entry{Number: r.line})
	}
	return nil
}

func (r *reader) unfinished(s Stream, end bool) error {
	j := &r.joins[s]
	if r.line < r.after || r.line >= r.last { // the line is not one of those wanted
		if end {
			j.head = j.head[:0]
		}
		return nil
	}
	if r.skip > 0 {
		if r.matches(j, j.head) {
			r.skip--
		}
		*j = join{}
		return nil
	}
	return r.handOut(s, j.time, j.head, end)
}
