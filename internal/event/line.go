package event

import (
	"encoding/json"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/sumline"
)

// Record is one line of the journal.
type Record struct {
	Seq uint64 `json:"seq"`
	// By is who asked for what happened; nil: nobody did, or it is not known.
	By *Origin `json:"by,omitempty"`
	events.Message
}

// encodeLine appends a record to b, with the newline.
func encodeLine(b []byte, r *Record) ([]byte, error) {
	object, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return sumline.Append(b, object), nil
}

// decodeLine reads a line, which must end with a newline.
func decodeLine(line []byte) (r Record, err error) {
	object, err := sumline.Cut(line)
	if err != nil {
		return Record{}, err
	}
	if err := json.Unmarshal(object, &r); err != nil {
		return Record{}, sumline.ErrDamaged
	}
	return r, nil
}
