package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"

	"github.com/moby/moby/api/types/events"
)

// Record is one line of the journal.
type Record struct {
	Seq uint64 `json:"seq"`
	// By is who asked for what happened; nil: nobody did, or it is not known.
	By *Origin `json:"by,omitempty"`
	events.Message
}

// castagnoli is immutable.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumSize is that of a checksum and the space behind it.
const sumSize = 2*crc32.Size + 1

func checksum(b []byte) (sum [2 * crc32.Size]byte) {
	n := crc32.Checksum(b, castagnoli)
	hex.Encode(sum[:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	return sum
}

// encodeLine appends a record to b, with the newline.
func encodeLine(b []byte, r *Record) ([]byte, error) {
	object, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := checksum(object)
	b = append(append(b, sum[:]...), ' ')
	return append(append(b, object...), '\n'), nil
}

var errDamaged = errors.New("damaged line")

// decodeLine reads a line, which must end with a newline.
func decodeLine(line []byte) (r Record, err error) {
	object, whole := bytes.CutSuffix(line, []byte("\n"))
	if !whole || len(object) <= sumSize || object[sumSize-1] != ' ' {
		return Record{}, errDamaged
	}
	sum, object := object[:sumSize-1], object[sumSize:]
	if want := checksum(object); !bytes.Equal(sum, want[:]) {
		return Record{}, errDamaged
	}
	if err := json.Unmarshal(object, &r); err != nil {
		return Record{}, errDamaged
	}
	return r, nil
}
