package seekzst

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A File gives random access to the text of a packed file. It keeps one frame
// decompressed, and is for one goroutine at a time.
type File struct {
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

// ErrMalformed is the error for what Pack has not written.
var ErrMalformed = errors.New("malformed zstd seek table")

// Open reads the seek table of f, a packed file of size bytes that stays the
// caller's. Sizes in the table are believed only as far as Pack goes, so that a
// planted file cannot eat the reader's memory. The error is ErrMalformed or
// that of reading.
func Open(f io.ReaderAt, size int64) (*File, error) {
	table, total, err := readSeekTable(f, size)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*FrameSize), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &File{f: f, decoder: dec, table: table, total: total, current: -1}, nil
}

func readSeekTable(f io.ReaderAt, size int64) ([]frame, int64, error) {
	footer := make([]byte, seekFooter)
	if size < seekFooter+8 {
		return nil, 0, ErrMalformed
	}
	if _, err := f.ReadAt(footer, size-seekFooter); err != nil {
		return nil, 0, err
	}
	count := int64(binary.LittleEndian.Uint32(footer))
	length := 8 + count*seekEntry + seekFooter
	if binary.LittleEndian.Uint32(footer[5:]) != seekableMagic || footer[4] != 0 || length > size {
		return nil, 0, ErrMalformed
	}
	b := make([]byte, length-seekFooter)
	if _, err := f.ReadAt(b, size-length); err != nil {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(b) != skippableMagic || int64(binary.LittleEndian.Uint32(b[4:])) != length-8 {
		return nil, 0, ErrMalformed
	}
	table := make([]frame, 0, count)
	var at, total int64
	for b = b[8:]; len(b) > 0; b = b[seekEntry:] {
		fr := frame{at: at, start: total, packed: int(binary.LittleEndian.Uint32(b)), size: int(binary.LittleEndian.Uint32(b[4:]))}
		if fr.packed > 2*FrameSize || fr.size > FrameSize || fr.size == 0 {
			return nil, 0, ErrMalformed
		}
		at += int64(fr.packed)
		total += int64(fr.size)
		table = append(table, fr)
	}
	if at != size-length {
		return nil, 0, ErrMalformed
	}
	return table, total, nil
}

// Size is that of the text.
func (z *File) Size() int64 { return z.total }

// Close frees the decoder. It leaves the file open.
func (z *File) Close() { z.decoder.Close() }

// ReadAt is io.ReaderAt. A damaged frame is an error other than io.EOF.
func (z *File) ReadAt(p []byte, off int64) (int, error) {
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
func (z *File) load(off int64) error {
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
		return ErrMalformed
	}
	z.current = i
	return nil
}

func (z *File) find(off int64) int {
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
