package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// NoAnswerError is for a shim that does not answer. Its class is
// errdefs.ErrUnavailable.
type NoAnswerError struct {
	// PIDs are those of the container's shims, mostly one.
	PIDs []int
	// State is what the first of them does, such as "is stopped"; empty if it is
	// gone.
	State string
}

func (e *NoAnswerError) Error() string {
	switch {
	case len(e.PIDs) == 0:
		return errNoAnswer.Error() + ": it is gone"
	case e.State == "":
		return fmt.Sprintf("%v (pid %d)", errNoAnswer, e.PIDs[0])
	}
	return fmt.Sprintf("%v: its process, pid %d, %s", errNoAnswer, e.PIDs[0], e.State)
}

func (e *NoAnswerError) stopped() bool { return strings.HasPrefix(e.State, stopped) }

// ended is the state of a process that has, and was not waited for.
const ended = "has ended"

// stopped is how the state of a process begins that SIGSTOP has stopped.
const stopped = "is stopped"

// Unwrap gives the class.
func (e *NoAnswerError) Unwrap() []error { return []error{errNoAnswer, errdefs.ErrUnavailable} }

// noAnswer looks at why the shim does not answer.
func (c *Container) noAnswer() *NoAnswerError {
	e := &NoAnswerError{}
	var err error
	if e.PIDs, err = c.shimPids(); err == nil && len(e.PIDs) > 0 {
		e.State = processState(e.PIDs[0])
	}
	return e
}

// processState says what a process does, see proc_pid_stat(5); empty if that is
// not known.
func processState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) == 0 {
		return ""
	}
	switch f[0] {
	case "T":
		return fmt.Sprintf(stopped+"; kill -CONT %d lets it go on", pid)
	case "t":
		return "is stopped by a debugger"
	case "D":
		return "waits in the kernel"
	case "Z", "X":
		return ended
	case "R":
		return "runs"
	}
	return "sleeps"
}

// callShort calls a method that takes the shim no time.
func (c *Container) callShort(ctx context.Context, method string, in, out any, files ...*os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	client := c.shim()
	// A shim that has not answered yet gets no further requests to keep.
	if paid := client.Owing(); paid != nil {
		if err := c.noAnswer(); err.stopped() {
			return err // and will not answer while it is
		}
		select {
		case <-paid:
		case <-client.Done():
		case <-ctx.Done():
			return c.explain(fmt.Errorf("shim %s: %w", method, context.Cause(ctx)))
		}
	}
	_, err := client.Call(ctx, method, in, out, files...)
	return c.explain(err)
}

// callLong calls a method whose answer takes what the container makes it take.
// When there is none within seconds, the shim is asked for signs of life; when
// these fail to come, too, the shim is given up after [patience].
func (c *Container) callLong(ctx context.Context, method string, in, out any, files ...*os.File) ([]*os.File, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	pulse := time.AfterFunc(answerTimeout, func() {
		for alive := begin; ctx.Err() == nil; {
			var st wire.State
			err := c.ask(ctx, wire.MethodState, &st)
			if err == nil {
				alive = time.Now()
			} else if time.Since(alive) >= c.r.patience {
				cancel(errNoAnswer)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(answerTimeout):
			}
		}
	})
	defer pulse.Stop()
	got, err := c.shim().Call(ctx, method, in, out, files...)
	return got, c.explain(err)
}

// explain makes of a missing answer an error that tells why.
func (c *Container) explain(err error) error {
	if errors.Is(err, errNoAnswer) || errors.Is(err, os.ErrDeadlineExceeded) {
		return c.noAnswer()
	}
	return err
}
