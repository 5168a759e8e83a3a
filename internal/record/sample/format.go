package sample

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

const (
	magic      = "phsample"
	version    = 1
	valueCount = 36
	recordSize = 320
	crcAt      = recordSize - crc32.Size
	// maxCapacity bounds what is believed of a header: twelve days.
	maxCapacity = 1 << 20
)

// ErrFormat says that a file is no ring of samples of this version.
var ErrFormat = errors.New("not a ring of samples of this version")

// ErrNoSample says that there is nothing to tell.
var ErrNoSample = errors.New("no sample")

// castagnoli is immutable.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(b *[recordSize]byte) {
	binary.LittleEndian.PutUint32(b[crcAt:], crc32.Checksum(b[:crcAt], castagnoli))
}

func sealed(b []byte) bool {
	return binary.LittleEndian.Uint32(b[crcAt:]) == crc32.Checksum(b[:crcAt], castagnoli)
}

func encodeHeader(b *[recordSize]byte, capacity int) {
	clear(b[:])
	copy(b[:], magic)
	binary.LittleEndian.PutUint16(b[8:], version)
	binary.LittleEndian.PutUint16(b[10:], recordSize)
	binary.LittleEndian.PutUint32(b[12:], uint32(capacity))
	seal(b)
}

// decodeHeader returns the capacity.
func decodeHeader(b []byte) (int, error) {
	if len(b) < recordSize || !bytes.HasPrefix(b, []byte(magic)) || !sealed(b[:recordSize]) ||
		binary.LittleEndian.Uint16(b[8:]) != version || binary.LittleEndian.Uint16(b[10:]) != recordSize {
		return 0, ErrFormat
	}
	capacity := binary.LittleEndian.Uint32(b[12:])
	if capacity == 0 || capacity > maxCapacity {
		return 0, ErrFormat
	}
	return int(capacity), nil
}

func encode(b *[recordSize]byte, seq uint64, s *Sample) {
	clear(b[:])
	binary.LittleEndian.PutUint64(b[0:], seq)
	binary.LittleEndian.PutUint64(b[8:], uint64(s.Time.UnixNano()))
	binary.LittleEndian.PutUint64(b[16:], uint64(s.Known))
	for i, v := range s.values() {
		binary.LittleEndian.PutUint64(b[24+8*i:], *v)
	}
	seal(b)
}

// decode reads a record. ok is false for one that is torn or was never written.
func decode(b []byte, s *Sample) (seq uint64, ok bool) {
	if len(b) < recordSize || !sealed(b[:recordSize]) {
		return 0, false
	}
	seq = binary.LittleEndian.Uint64(b[0:])
	s.Time = time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))).UTC()
	s.Known = Known(binary.LittleEndian.Uint64(b[16:]))
	for i, v := range s.values() {
		*v = binary.LittleEndian.Uint64(b[24+8*i:])
	}
	return seq, seq > 0
}

// slot is where a record is in the file.
func slot(seq uint64, capacity int) int64 {
	return recordSize * (1 + int64((seq-1)%uint64(capacity)))
}
