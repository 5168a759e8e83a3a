package crilog

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// An index file is a header and marks, 24 bytes each, little endian:
//
//	header  "PHLOGIX1"         number of lines in all segments before  time of creation
//	mark    offset | flags<<56 number of lines before offset           time of the record at offset
//
// Times are Unix nanoseconds. A mark points at the start of a record. Its
// flags tell for which streams the record is amidst a line whose beginning
// lies before the mark. Lines are numbered through all segments and count those
// that were lost, so that a jump in the numbers is a gap in the log.
const (
	indexMagic  = "PHLOGIX1"
	indexRecord = 24
	// markEvery is the distance of marks in bytes. A reader scans at most
	// that much in vain.
	markEvery = 128 << 10
)

type mark struct {
	offset int64
	open   uint8 // bit n: stream n is amidst a line
	line   uint64
	time   int64
}

func openBit(s Stream) uint8 { return 1 << s }

func (m mark) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.offset)|uint64(m.open)<<56)
	b = binary.LittleEndian.AppendUint64(b, m.line)
	return binary.LittleEndian.AppendUint64(b, uint64(m.time))
}

func parseMark(b []byte) mark {
	at := binary.LittleEndian.Uint64(b)
	return mark{
		offset: int64(at &^ (0xff << 56)),
		open:   uint8(at >> 56),
		line:   binary.LittleEndian.Uint64(b[8:]),
		time:   int64(binary.LittleEndian.Uint64(b[16:])),
	}
}

// index is what an index file tells. The first mark is always the start of the
// segment.
type index struct {
	known bool // the header was there: line numbers mean something
	marks []mark
	read  int64 // bytes of the file that the marks were read from
}

func indexHeader(first uint64, t time.Time) []byte {
	b := make([]byte, 0, 2*indexRecord)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint64(b, first)
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixNano()))
}

// parseIndex reads an index for a segment of the given size. What does not
// make sense (a torn end, marks beyond the segment or out of order) is left
// out: an index only ever saves work.
func parseIndex(b []byte, size int64) index {
	var ix index
	start := mark{}
	if len(b) >= indexRecord && string(b[:8]) == indexMagic {
		ix.known, ix.read = true, indexRecord
		start.line = binary.LittleEndian.Uint64(b[8:])
		start.time = int64(binary.LittleEndian.Uint64(b[16:]))
		b = b[indexRecord:]
	} else {
		b = nil
	}
	ix.marks = append(ix.marks, start)
	for ; len(b) >= indexRecord; b = b[indexRecord:] {
		m := parseMark(b)
		if !ix.mayBeNext(m, size) {
			break
		}
		ix.read += indexRecord
		if m.offset == 0 {
			// The segment may begin amidst a line, or after some that were lost.
			ix.marks[0].open, ix.marks[0].time, ix.marks[0].line = m.open, m.time, m.line
			continue
		}
		ix.marks = append(ix.marks, m)
	}
	return ix
}

func (ix *index) mayBeNext(m mark, size int64) bool {
	last := ix.marks[len(ix.marks)-1]
	return m.offset <= size && m.offset >= last.offset && m.line >= last.line
}

// grow reads the marks that have come since, for a segment of the given size.
func (ix *index) grow(f io.ReaderAt, size int64) error {
	b, err := io.ReadAll(io.NewSectionReader(f, ix.read, maxIndex))
	if err != nil {
		return err
	}
	for ; len(b) >= indexRecord; b = b[indexRecord:] {
		m := parseMark(b)
		if !ix.mayBeNext(m, size) {
			return nil
		}
		ix.read += indexRecord
		ix.marks = append(ix.marks, m)
	}
	return nil
}

// maxIndex bounds what is read of an index file: marks for 8 GiB.
const maxIndex = indexRecord * (8 << 30 / markEvery)

// loadIndex reads the index of segment n. Without one, there is a single mark.
func loadIndex(dir *os.File, n int, size int64) (index, error) {
	f, err := openAt(dir, indexName(n), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return readIndex(nil, size)
	}
	if err != nil {
		return index{}, err
	}
	defer f.Close()
	return readIndex(f, size)
}

// readIndex reads the index from f, which is nil for a segment without.
func readIndex(f *os.File, size int64) (index, error) {
	if f == nil {
		return parseIndex(nil, size), nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxIndex))
	if err != nil {
		return index{}, err
	}
	return parseIndex(b, size), nil
}
