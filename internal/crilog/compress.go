package crilog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A compressed segment is in zstd's seekable format: frames of frameSize bytes
// each, which zstdcat decompresses as one, then a skippable frame with a table
// of their sizes. A reader can therefore begin anywhere.
//
//	frame ... frame | 0x184D2A5E size | {compressed, plain uint32} ... | frames uint32, 0, 0x8F92EAB1
//
// Source: facebook/zstd contrib/seekable_format/zstd_seekable_compression_format.md
const (
	frameSize      = 512 << 10
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	seekFooter     = 9
	seekEntry      = 8
)

// CompressRotated compresses the rotated segments in dir, one after the other.
// Only one process at a time does so; if another one is at it, CompressRotated
// returns at once.
func CompressRotated(dir *os.File) error {
	// A description of our own: a lock belongs to that.
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	own := os.NewFile(uintptr(fd), dir.Name())
	defer own.Close()
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return nil
		}
		return fmt.Errorf("lock log dir: %w", err)
	}
	list, err := listSegments(own)
	if err != nil {
		return err
	}
	list = readable(list)
	for i, s := range list {
		if i == len(list)-1 || !s.plain {
			continue // active, or done
		}
		// ErrNotExist: it was dropped meanwhile, as too old.
		if err := compressSegment(own, s.n); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("compress log segment %d: %w", s.n, err)
		}
	}
	return nil
}

// compressSegment replaces a plain segment by a compressed one. At any moment
// a reader finds one of the two whole.
func compressSegment(dir *os.File, n int) (err error) {
	in, err := openAt(dir, logName(n), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := openAt(dir, scratchName(n), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err != nil {
			_ = unix.Unlinkat(int(dir.Fd()), scratchName(n), 0) // overwritten next time
		}
	}()
	if err := compressTo(out, in); err != nil {
		return err
	}
	// Whole on disk before the plain one goes.
	if err := out.Sync(); err != nil {
		return err
	}
	d := int(dir.Fd())
	if err := unix.Faccessat(d, logName(n), unix.F_OK, 0); err != nil {
		return err // dropped meanwhile
	}
	if err := unix.Renameat(d, scratchName(n), d, compressedName(n)); err != nil {
		return err
	}
	return unix.Unlinkat(d, logName(n), 0)
}

// compressTo writes the seekable form of in to out.
func compressTo(out io.Writer, in io.Reader) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(frameSize))
	if err != nil {
		return err
	}
	defer enc.Close()
	plain := make([]byte, frameSize)
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
