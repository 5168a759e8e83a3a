package crilog

import (
	"encoding/binary"
	"errors"
)

// Batch is what a Writer has written at once, and where. A log that is rotated
// faster than anybody can open its segments is followed by its batches.
type Batch struct {
	Segment int    // the number of the segment
	Offset  int64  // of the first record in it
	Line    uint64 // complete lines before, lost ones included
	// Records are whole records as they are in the segment. A batch without any
	// tells how far the log has been written.
	Records []byte
}

// end is the offset behind the batch.
func (b Batch) end() int64 { return b.Offset + int64(len(b.Records)) }

const (
	// BatchHeaderSize is the size of what AppendHeader makes, BatchMost that of
	// the largest batch with its header.
	BatchHeaderSize = 32
	BatchMost       = BatchHeaderSize + batchSize

	batchMagic = "PHB1"
)

// AppendHeader appends what stands before the batch's records when it is sent.
// Count is how many batches there were before, unsent ones included.
//
//	0        4          8         16       24       32
//	+--------+----------+---------+--------+--------+---------
//	| "PHB1" | segment  | offset  | lines  | count  | records
//	+--------+----------+---------+--------+--------+---------
//	          uint32, then uint64, little endian
func (b Batch) AppendHeader(to []byte, count uint64) []byte {
	to = append(to, batchMagic...)
	to = binary.LittleEndian.AppendUint32(to, uint32(b.Segment))
	to = binary.LittleEndian.AppendUint64(to, uint64(b.Offset))
	to = binary.LittleEndian.AppendUint64(to, b.Line)
	return binary.LittleEndian.AppendUint64(to, count)
}

// ParseBatch reads a message of AppendHeader and records. The records share p's
// memory.
func ParseBatch(p []byte) (b Batch, count uint64, err error) {
	if len(p) < BatchHeaderSize || string(p[:4]) != batchMagic {
		return Batch{}, 0, errors.New("not a batch of log records")
	}
	b.Segment = int(binary.LittleEndian.Uint32(p[4:]))
	b.Offset = int64(binary.LittleEndian.Uint64(p[8:]))
	b.Line = binary.LittleEndian.Uint64(p[16:])
	b.Records = p[BatchHeaderSize:]
	if b.Offset < 0 || b.end() < b.Offset || len(b.Records) > 0 && b.Records[len(b.Records)-1] != '\n' {
		return Batch{}, 0, errors.New("impossible batch of log records")
	}
	return b, binary.LittleEndian.Uint64(p[24:]), nil
}

// Tap has fn called with each batch once it is in the segment; nil: no more.
// It is called while the Writer is locked, so it must neither block nor call the
// Writer, and the records are the Writer's again when it returns. The first call
// comes before Tap returns and tells how far the log is. Before the first Write the
// calls begin where OpenWriter has found the log, so that whoever has followed it up
// to there misses nothing of what that has ended.
func (w *Writer) Tap(fn func(Batch)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tap = fn
	if fn != nil && !w.closed {
		for _, b := range w.opened {
			fn(b)
		}
		w.opened = nil
	}
	w.tell()
}

// Tell calls what Tap was given with an empty batch.
func (w *Writer) Tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell()
}

func (w *Writer) tell() {
	if w.tap != nil && !w.closed {
		w.tap(Batch{Segment: w.n, Offset: w.size, Line: w.line})
	}
}
