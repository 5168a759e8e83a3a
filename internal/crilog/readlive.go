package crilog

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"time"
)

// Live is a log as it is being written: the last batches, in order. A reader
// takes them in place of the files and looks for those that it missed in the
// files.
type Live interface {
	// State tells whether batches come. The channel is closed once it may not
	// be true any more, or there is one more batch.
	State() (on bool, changed <-chan struct{})
	// Next is the batch after the one with a number, or the oldest that is left
	// after it; false: there is none. Numbers begin with 1, and are not in a row
	// where batches are missing. The records must not be changed.
	Next(after uint64) (b Batch, number uint64, ok bool)
}

// settleMost is how long a reader waits for the end of a Live whose log has
// ended, before it looks into the files for the rest.
const settleMost = time.Second

// liveState is that of opts.Live, if there is one.
func (r *reader) liveState() (on bool, changed <-chan struct{}) {
	if r.opts.Live == nil {
		return false, nil
	}
	return r.opts.Live.State()
}

// readLive hands out the batches that there are.
func (r *reader) readLive(ctx context.Context) error {
	for r.opts.Live != nil && r.line < r.last {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b, number, ok := r.opts.Live.Next(r.batch)
		if !ok {
			return nil
		}
		follows := r.batch > 0 && number == r.batch+1
		r.batch = number
		if err := r.takeBatch(ctx, b, follows); err != nil {
			return err
		}
	}
	return nil
}

// takeBatch hands out what is new in b; follows says that all before it was.
func (r *reader) takeBatch(ctx context.Context, b Batch, follows bool) error {
	if !follows && r.isBefore(b) {
		// Some batches are missing. The files up to b may have them.
		if err := r.readUpTo(ctx, b.Segment); err != nil {
			return err
		}
		if err := r.skipTo(b); err != nil {
			return err
		}
	}
	if r.src != nil && (b.Segment < r.src.n || b.Segment == r.src.n && b.end() < r.offset) {
		return nil // read from the file already
	}
	if r.src == nil || b.Segment > r.src.n {
		if err := r.enter(liveSource(b.Segment), mark{offset: b.Offset}, 0); err != nil {
			return err
		}
	}
	if !follows { // as it does within a run
		if err := r.learnRuns(); err != nil {
			return err
		}
	}
	if r.offset <= b.Offset {
		r.offset, r.discard = b.Offset, false
		if err := r.arrive(b.Line); err != nil {
			return err
		}
	}
	r.fed = true
	used, err := r.records(b.Records[r.offset-b.Offset:])
	r.fed = false
	r.offset += int64(used)
	return err
}

// errBatchesCome ends the reading of files, since what they do not hold any more may come as batches.
var errBatchesCome = errors.New("batches come")

// bridge is called before segment n is entered in its file. If others between
// are gone, or the one that was read by its batches was gone before its end was
// known, there may be batches of them by now; true: there were some. The error is
// errBatchesCome where there may be some later.
func (r *reader) bridge(ctx context.Context, n int) (bool, error) {
	if r.opts.Live == nil || r.limit < math.MaxInt || r.src != nil && !r.src.live && n == r.src.n+1 {
		return false, nil
	}
	last := r.batch
	if err := r.readLive(ctx); err != nil || r.batch != last {
		return r.batch != last, err
	}
	if on, _ := r.liveState(); on && !r.filesOnly {
		return false, errBatchesCome
	}
	return false, nil
}

// skipTo ends lines whose ends are missing before b.
func (r *reader) skipTo(b Batch) error {
	if !r.isBefore(b) || b.Offset == 0 && r.isNext(b.Segment) {
		return nil
	}
	var open uint8
	for s := Stdout; s <= Stderr; s++ {
		if j := &r.joins[s]; b.Offset > 0 || len(j.head) > 0 || j.begun {
			open |= openBit(s)
		}
	}
	if err := r.torn(b.Line, open); err != nil {
		return err
	}
	return r.endJoins()
}

// isBefore tells whether there is something between the reader's place and b.
func (r *reader) isBefore(b Batch) bool {
	return r.src == nil || b.Segment > r.src.n || b.Segment == r.src.n && b.Offset > r.offset
}

// readUpTo reads what the files hold up to the end of segment n.
func (r *reader) readUpTo(ctx context.Context, n int) error {
	r.limit = n
	defer func() { r.limit = math.MaxInt }()
	return r.readAll(ctx)
}

// liveSource stands for a segment of which batches are read and not the file.
func liveSource(n int) *source {
	return &source{
		n: n, live: true, reader: bytes.NewReader(nil),
		size: func() (int64, error) { return 0, nil },
		free: func() {},
	}
}

// reopen goes on in the file of a segment that was read by its batches, if it
// is there yet.
func (r *reader) reopen() error {
	if r.src == nil || !r.src.live {
		return nil
	}
	src, err := r.openSource(r.src.n)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	r.src, r.counted, r.mark = src, 0, len(src.index.marks)
	for i, m := range src.index.marks {
		if m.offset >= r.offset {
			r.mark = i
			break
		}
	}
	return nil
}
