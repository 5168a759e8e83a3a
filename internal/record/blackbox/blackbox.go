// Package blackbox has what the black box of a run has kept: its last system
// calls, programs, ends and signals, in words, and the short form of it that goes
// into a death record.
//
// [Of] makes it of what the kernel has kept (calltrace.Box), [Kept.Encode] and
// [Decode] are its form in a file: JSON, one value for each line, in one frame of
// zstd. The first line is about the box, each other one an event.
package blackbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/calltrace"
)

// Version of the files. Fields may be added without a new one.
const Version = 1

// Kept is what a black box has kept of a run. It is not changed any more.
type Kept struct {
	Head
	Events []*api.TraceEvent // in the order in which they came to an end
}

// Head is what is known about a box as a whole, and the first line of a file.
type Head struct {
	Version int       `json:"version"`
	Since   time.Time `json:"since"`
	// Late tells that the run had begun before: what it did until then is missing.
	Late bool   `json:"late,omitempty"`
	Seen uint64 `json:"seen"` // how many events there were, with those that made way for others
	Lost uint64 `json:"lost"` // how many could not be kept when they came
}

// Of puts what the kernel has kept into words.
func Of(k calltrace.Kept, since time.Time, when calltrace.Begins) *Kept {
	out := &Kept{Head: Head{Version: Version, Since: since.UTC(), Late: when == calltrace.Amidst, Seen: k.Seen, Lost: k.Lost}}
	var words Words
	for _, e := range k.Events {
		out.Events = append(out.Events, words.Event(e))
	}
	return out
}

// Encode is the content of a file.
func (k *Kept) Encode() ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(&k.Head); err != nil {
		return nil, err
	}
	for _, e := range k.Events {
		if err := out.Encode(e); err != nil {
			return nil, err
		}
	}
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(text.Bytes(), nil), nil
}

// encoder is for all files: they are few, and a new one takes memory and time.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
})

// maxText bounds what a file is unpacked to: some kilobytes for each of the most
// events that a box has.
const maxText = 64 << 20

// Decode reads the content of a file.
func Decode(data []byte) (*Kept, error) {
	dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxText))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	in := json.NewDecoder(io.LimitReader(dec, maxText))
	k := new(Kept)
	if err := in.Decode(&k.Head); err != nil {
		return nil, fmt.Errorf("read a black box: %w", err)
	}
	if k.Version != Version {
		return nil, fmt.Errorf("read a black box: it is of version %d, and this program knows %d", k.Version, Version)
	}
	for {
		e := new(api.TraceEvent)
		switch err := in.Decode(e); {
		case errors.Is(err, io.EOF):
			return k, nil
		case err != nil:
			return nil, fmt.Errorf("read a black box: %w", err)
		}
		k.Events = append(k.Events, e)
	}
}

// MaxQuoted are the calls of each kind that a [Summary] has.
const MaxQuoted = 8

// Summary is the short form of what a box has kept.
type Summary struct {
	Since  time.Time `json:"since"`
	Late   bool      `json:"late,omitempty"` // what the run did before that is missing
	Kept   int       `json:"kept"`           // how many events there are
	Seen   uint64    `json:"seen"`           // how many there were
	Lost   uint64    `json:"lost,omitempty"` // how many could not be kept when they came
	Ended  time.Time `json:"ended,omitzero"` // when the first process ended, by the kernel's clock
	Failed []Call    `json:"failed,omitempty"`
	First  []Call    `json:"first,omitempty"` // the last of the container's first process
}

// Call is a system call in words.
type Call struct {
	Time    time.Time `json:"time"` // when it began
	Took    int64     `json:"took"` // nanoseconds
	PID     int       `json:"pid"`  // in the container
	Program string    `json:"program"`
	Call    string    `json:"call"`
	Args    string    `json:"args"`             // in parentheses, as strace(1) prints them
	Result  string    `json:"result,omitempty"` // "?": its thread has ended in it
	Errno   string    `json:"errno,omitempty"`
	Denied  bool      `json:"denied,omitempty"` // by seccomp
}

// Text is a call as strace(1) prints it, with the name of its error alone.
func (c Call) Text() string {
	result := c.Result
	if c.Errno != "" {
		result = c.Errno
	}
	return c.Call + c.Args + " = " + result
}

// usual are errors that are no trouble: of a program that asks what a file is, or
// whether there is something yet.
var usual = []string{
	"EAGAIN", "EINTR", "EINPROGRESS", "EALREADY", "ECHILD", "ENOTTY", "ESPIPE", "ENODATA", "EOPNOTSUPP", "ENOSYS",
	"ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ERESTART_RESTARTBLOCK",
}

// Summary makes the short form: the last calls that failed, but for errors that are
// usual, and the last of the first process, of both the oldest first.
func (k *Kept) Summary() *Summary {
	s := &Summary{Since: k.Since, Late: k.Late, Kept: len(k.Events), Seen: k.Seen, Lost: k.Lost}
	for _, e := range slices.Backward(k.Events) {
		if e.Kind == api.TraceExit && e.PID == 1 && s.Ended.IsZero() {
			s.Ended = e.Time
		}
		if e.Kind != api.TraceCall {
			continue
		}
		c := Call{
			Time: e.Time, Took: e.TookNanoseconds, PID: e.PID, Program: e.Name, Call: e.Call, Args: e.Args, Result: e.Result,
			Errno: e.Errno, Denied: e.Denied,
		}
		if e.Errno != "" && !slices.Contains(usual, e.Errno) && len(s.Failed) < MaxQuoted {
			s.Failed = append(s.Failed, c)
		}
		if e.PID == 1 && len(s.First) < MaxQuoted {
			s.First = append(s.First, c)
		}
	}
	slices.Reverse(s.Failed)
	slices.Reverse(s.First)
	return s
}
