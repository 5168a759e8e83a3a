package wire

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The conversation between a shim and the stage it forked, in order. The
// stage's end of the socket pair is its descriptor 3.
//
//	shim                                   stage
//	 |-- plan (payload; stdio and files) --> |
//	 |                                       | arranges mounts, ...
//	 | <-------------- pty (file: master) -- |  with a terminal only
//	 | <------------------------- ready ---- |
//	 |                                       | drops rights, ...
//	 |-- go -------------------------------> |
//	 | <------------- timings (payload) ---- |  the last word before exec
//	 | <------------------- end of stream -- |  close-on-exec: exec succeeded
//
// A container without a shim (package runtime, Bare) has two more points at which the
// stage waits. At hold it is before the root is taken; with go may come orders (payload:
// hook.Orders as JSON), hooks to be run first. At the rendezvous the plan holds a
// listening socket: the stage says ready and takes whoever connects for the shim from
// then on. One that goes away without a word is followed by the next.
//
//	creator                                stage                             starter
//	 |-- plan -----------------------------> |
//	 | <------------------------- hold ----- |
//	 |-- go (orders) ----------------------> |
//	 | <------------------------- ready ---- | waits at its socket
//	                                         | <----------------- go (orders) -- |
//	                                         |-- timings, end of stream -------> |
//
// The stage may send failed (payload: Error as JSON) and exit, but not between
// ready and go: what fails there is told after go. An end of
// stream without timings before it means that the stage died; timings, then
// failed, means that exec itself was refused.
//
// The first three files that come with the plan are the standard input, output
// and error of the future process ([TakeStdio]). In exec mode the container's
// mount namespace comes next; the plan's own files follow. The stage may
// have been forked long before it gets all that.
//
// Without a terminal the stage gives the standard streams to the user whom it
// becomes (fchown), because /dev/stdout is opened by its owner's rights.
const (
	StagePlan    = "plan"
	StagePTY     = "pty"
	StageHold    = "hold"
	StageReady   = "ready"
	StageGo      = "go"
	StageTimings = "timings"
	StageFailed  = "failed"
)

// StageFD is the descriptor at which a stage finds its end of the socket pair.
const StageFD = 3

// stdioFiles is how many of the files that come with a plan are standard streams.
const stdioFiles = 3

// TakeStdio makes the first three files that came with a plan the standard
// streams of this process and closes them. The others, which are the plan's, it
// gives back.
func TakeStdio(files []*os.File) ([]*os.File, error) {
	if len(files) < stdioFiles {
		return nil, fmt.Errorf("%d files came where at least %d are due", len(files), stdioFiles)
	}
	for i, f := range files[:stdioFiles] {
		if err := unix.Dup3(int(f.Fd()), i, 0); err != nil {
			return nil, os.NewSyscallError("dup3", err)
		}
		f.Close()
	}
	return files[stdioFiles:], nil
}

// Word is one thing said between shim and stage.
type Word struct {
	Name    string
	Payload []byte
}

// AppendSteps adds the payload of StageTimings: for each step its microseconds,
// a space, its name and a NUL.
func AppendSteps(b []byte, steps []Step) []byte {
	for _, s := range steps {
		b = strconv.AppendInt(b, s.Microseconds, 10)
		b = append(b, ' ')
		b = append(b, s.Name...)
		b = append(b, 0)
	}
	return b
}

// ParseSteps is the reverse of AppendSteps. The result is never nil without an
// error, which is ErrMalformed.
func ParseSteps(b []byte) ([]Step, error) {
	steps := []Step{}
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{0})
		number, name, two := bytes.Cut(line, []byte{' '})
		took, err := strconv.ParseInt(string(number), 10, 64)
		if !whole || !two || err != nil {
			return nil, fmt.Errorf("%w: step %q", ErrMalformed, line)
		}
		steps = append(steps, Step{Name: string(name), Microseconds: took})
		b = rest
	}
	return steps, nil
}

// DialStage connects to a stage that waits at its rendezvous.
func DialStage(path string) (*Conn, error) {
	c, err := dialUnix(path)
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}
