package api

import (
	"fmt"
	"time"
)

// LogFramesType is the content type of GET /porthole/containers/{name}/logs
// without format=json: frames with a head of eight bytes, like Docker's, in which
// the three bytes that Docker leaves zero say how far the log has come.
//
//	 0        1       2               4               8
//	+--------+-------+---------------+---------------+----------+
//	| kind   | flags | lines         | length        | bytes    |
//	+--------+-------+---------------+---------------+----------+
//
// Kinds 1 and 2 are output of a stream, as in Docker's frames. lines, big endian,
// is by how much the frame takes the number of the last line read further:
// whoever adds them up, beginning with the last LogMark, can go on with after=N.
// Flag 1 says that the bytes go on where the last frame of that stream, which had
// no newline, ended; they then begin with neither a time nor details.
const LogFramesType = "application/vnd.porthole.log-frames"

// Kinds of frames that Docker does not have. LogFailure is the one it has: the
// text of an error, which ends the stream.
const (
	LogFailure = 3
	LogMark    = 4 // a LogNotice as JSON
)

// LogContinued is the flag of a frame that goes on with a line.
const LogContinued = 1

// LogNotice tells of missing lines, or how far the log was read.
type LogNotice struct {
	// Number is that of the last line read, missing ones included.
	Number uint64 `json:"number"`
	// Dropped is how many lines are missing here; 0: none are.
	Dropped uint64 `json:"dropped,omitempty"`
	// Damaged says that some of them were where the file is damaged.
	Damaged bool `json:"damaged,omitempty"`
	// Parts says that more is missing here of a line that was counted as dropped
	// before.
	Parts bool `json:"parts,omitempty"`
}

// Gap tells whether something is missing here.
func (n LogNotice) Gap() bool { return n.Dropped > 0 || n.Parts }

// String is what people are told: "7 lines dropped here: ...".
func (n LogNotice) String() string {
	lines, why := "lines", "rotated away or not written"
	if n.Dropped == 1 {
		lines = "line"
	}
	if n.Damaged {
		why = "the log file is damaged"
	}
	if n.Dropped == 0 {
		return "more of a line dropped here: " + why
	}
	return fmt.Sprintf("%d %s dropped here: %s", n.Dropped, lines, why)
}

// LogLine is one line of the answer with format=json, which is one object per
// line. An object without Stream is a LogNotice.
type LogLine struct {
	Time time.Time `json:"time,omitzero"`
	// Stream is stdout or stderr.
	Stream string `json:"stream,omitempty"`
	// Run is the number of the run that wrote the line; 0: not known.
	Run int `json:"run,omitempty"`
	// Text is the line without its newline. Bytes that are no UTF-8 are replaced
	// in it, and Bytes is then the line as it was.
	Text  string `json:"text"`
	Bytes []byte `json:"bytes,omitempty"`
	// Continued says that it goes on with the last one of its stream: a line
	// longer than 1 MiB comes in pieces.
	Continued bool `json:"continued,omitempty"`
	// Open says that there is no newline: more of the line may follow.
	Open bool `json:"open,omitempty"`
	LogNotice
}
