// Package seekzst packs files into zstd's seekable format and reads them at any
// offset. Every zstd tool decompresses such a file as a whole; Open begins
// anywhere.
//
// A file is frames of FrameSize bytes each, then a skippable frame with a table
// of their sizes:
//
//	frame ... frame | 0x184D2A5E size | {compressed, plain uint32} ... | frames uint32, 0, 0x8F92EAB1
//
// Source: facebook/zstd contrib/seekable_format/zstd_seekable_compression_format.md
package seekzst

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// FrameSize is how many bytes of text, at most, one frame holds: what a reader
// decompresses to get at a byte.
const FrameSize = 512 << 10

const (
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	seekFooter     = 9
	seekEntry      = 8
)

// Pack writes the seekable form of in to out.
func Pack(out io.Writer, in io.Reader) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(FrameSize))
	if err != nil {
		return err
	}
	defer enc.Close()
	plain := make([]byte, FrameSize)
	var packed, table []byte
	frames := uint32(0)
	for {
		n, err := io.ReadFull(in, plain)
		if n > 0 {
			packed = enc.EncodeAll(plain[:n], packed[:0])
			if _, err := out.Write(packed); err != nil {
				return err
			}
			table = binary.LittleEndian.AppendUint32(table, uint32(len(packed)))
			table = binary.LittleEndian.AppendUint32(table, uint32(n))
			frames++
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(table)+seekFooter))
	b = append(b, table...)
	b = binary.LittleEndian.AppendUint32(b, frames)
	b = append(b, 0) // no checksums beside those in the frames
	b = binary.LittleEndian.AppendUint32(b, seekableMagic)
	_, err = out.Write(b)
	return err
}
