package crilog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// source is one segment opened for reading. It stays readable when the segment
// is dropped or compressed meanwhile.
type source struct {
	n      int
	index  index
	reader io.ReaderAt
	size   func() (int64, error) // grows while the segment is the active one
	close  func()
}

// openSource opens segment n, compressed or not. The error is fs.ErrNotExist
// when it has been dropped.
func openSource(dir *os.File, n int) (*source, error) {
	// The index is made before its segment and removed after it. Opened first,
	// it is there also for a segment that is dropped this moment.
	idx, err := openAt(dir, indexName(n), os.O_RDONLY)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if idx != nil {
		defer idx.Close()
	}
	s, err := openPlain(dir, n)
	if errors.Is(err, os.ErrNotExist) {
		// Compressed meanwhile; or dropped, for a segment never turns plain again.
		s, err = openCompressed(dir, n)
	}
	if err != nil {
		return nil, err
	}
	return s.withIndex(idx)
}

func openPlain(dir *os.File, n int) (*source, error) {
	f, err := openAt(dir, logName(n), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s := &source{n: n, reader: f, close: func() { f.Close() }}
	s.size = func() (int64, error) {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	return s, nil
}

func openCompressed(dir *os.File, n int) (*source, error) {
	f, err := openAt(dir, compressedName(n), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	z, err := newFrames(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("log segment %q: %w", f.Name(), err)
	}
	s := &source{n: n, reader: z, close: func() { z.decoder.Close(); f.Close() }}
	s.size = func() (int64, error) { return z.total, nil }
	return s, nil
}

// withIndex reads the index, nil: there is none. On an error s is closed.
func (s *source) withIndex(idx *os.File) (*source, error) {
	size, err := s.size()
	if err == nil {
		s.index, err = readIndex(idx, size)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// frames gives random access to a compressed segment. It keeps one frame
// decompressed.
type frames struct {
	f       io.ReaderAt
	decoder *zstd.Decoder
	table   []frame
	total   int64

	current int // index of the frame in plain; -1 for none
	plain   []byte
	packed  []byte
}

type frame struct {
	at, start    int64 // in the file, in the text
	packed, size int
}

var errSeekTable = errors.New("malformed seek table")

// newFrames reads the seek table. Sizes in it are believed only as far as
// our own writer goes, so that a planted file cannot eat the reader's memory.
func newFrames(f *os.File) (*frames, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	table, total, err := readSeekTable(f, st.Size())
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*frameSize), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &frames{f: f, decoder: dec, table: table, total: total, current: -1}, nil
}

func readSeekTable(f io.ReaderAt, size int64) ([]frame, int64, error) {
	footer := make([]byte, seekFooter)
	if size < seekFooter+8 {
		return nil, 0, errSeekTable
	}
	if _, err := f.ReadAt(footer, size-seekFooter); err != nil {
		return nil, 0, err
	}
	count := int64(binary.LittleEndian.Uint32(footer))
	length := 8 + count*seekEntry + seekFooter
	if binary.LittleEndian.Uint32(footer[5:]) != seekableMagic || footer[4] != 0 || length > size {
		return nil, 0, errSeekTable
	}
	b := make([]byte, length-seekFooter)
	if _, err := f.ReadAt(b, size-length); err != nil {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(b) != skippableMagic || int64(binary.LittleEndian.Uint32(b[4:])) != length-8 {
		return nil, 0, errSeekTable
	}
	table := make([]frame, 0, count)
	var at, total int64
	for b = b[8:]; len(b) > 0; b = b[seekEntry:] {
		fr := frame{at: at, start: total, packed: int(binary.LittleEndian.Uint32(b)), size: int(binary.LittleEndian.Uint32(b[4:]))}
		if fr.packed > 2*frameSize || fr.size > frameSize || fr.size == 0 {
			return nil, 0, errSeekTable
		}
		at += int64(fr.packed)
		total += int64(fr.size)
		table = append(table, fr)
	}
	if at != size-length {
		return nil, 0, errSeekTable
	}
	return table, total, nil
}

func (z *frames) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		if off >= z.total {
			return done, io.EOF
		}
		if err := z.load(off); err != nil {
			return done, err
		}
		n := copy(p[done:], z.plain[off-z.table[z.current].start:])
		done += n
		off += int64(n)
	}
	return done, nil
}

// load decompresses the frame that holds off.
func (z *frames) load(off int64) error {
	i := z.find(off)
	if i == z.current {
		return nil
	}
	z.current = -1
	fr := z.table[i]
	if cap(z.packed) < fr.packed {
		z.packed = make([]byte, fr.packed)
	}
	packed := z.packed[:fr.packed]
	if _, err := z.f.ReadAt(packed, fr.at); err != nil {
		return err
	}
	plain, err := z.decoder.DecodeAll(packed, z.plain[:0])
	if err != nil {
		return err
	}
	z.plain = plain
	if len(plain) != fr.size {
		return errSeekTable
	}
	z.current = i
	return nil
}

func (z *frames) find(off int64) int {
	lo, hi := 0, len(z.table)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; z.table[mid].start <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}
