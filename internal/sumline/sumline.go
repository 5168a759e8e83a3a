// Package sumline writes lines that carry a checksum, so that a reader tells what a
// crash or a disk has damaged from what was written.
//
//	5a0f3c77 {"seq":17}
//
// [Append] makes a line of any bytes without a newline in them, [Cut] takes it apart
// again. The checksum is CRC-32C of what stands behind the space, in hexadecimal.
package sumline

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
)

// ErrDamaged says that a line is not what was written.
var ErrDamaged = errors.New("damaged line")

// castagnoli is immutable.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Overhead is how much longer a line is than its content, with the newline.
const Overhead = 2*crc32.Size + 2

func checksum(b []byte) (sum [2 * crc32.Size]byte) {
	n := crc32.Checksum(b, castagnoli)
	hex.Encode(sum[:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	return sum
}

// Append appends the line for content to b, with the newline.
func Append(b, content []byte) []byte {
	sum := checksum(content)
	b = append(append(b, sum[:]...), ' ')
	return append(append(b, content...), '\n')
}

// Cut returns the content of a line, which must end with a newline. It is a part of
// line and not a copy.
func Cut(line []byte) (content []byte, err error) {
	const head = Overhead - 1 // checksum and space
	content, whole := bytes.CutSuffix(line, []byte("\n"))
	if !whole || len(content) <= head || content[head-1] != ' ' {
		return nil, ErrDamaged
	}
	sum, content := content[:head-1], content[head:]
	if want := checksum(content); !bytes.Equal(sum, want[:]) {
		return nil, ErrDamaged
	}
	return content, nil
}
