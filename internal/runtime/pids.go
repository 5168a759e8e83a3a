package runtime

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// startPids is how many threads a shim and a stage have once they have come up, with some to spare.
const startPids = 16

// shortOfPids adds to the error of a start that failed because shim or stage has ended, that they can have ended for want of
// threads, if there can hardly be more. Go's runtime ends a program that gets none, and tells it where nobody reads it.
func (c *Container) shortOfPids(err error) error {
	if left, limited := c.group.PidsLeft(); !limited || left > startPids {
		return err
	}
	if start, ok := errors.AsType[*StartError](err); ok {
		start.Errno = unix.EAGAIN
		start.Message += ": " + unix.EAGAIN.Error()
		return err
	}
	return fmt.Errorf("%w: %w", err, unix.EAGAIN)
}

// ifShortOfPids is shortOfPids for an error that need not come of that.
func (c *Container) ifShortOfPids(err error) error {
	if endedEarly(err) {
		return c.shortOfPids(err)
	}
	return err
}

// endedEarly tells whether a shim or a stage has ended instead of answering.
func endedEarly(err error) bool {
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, unix.ECONNRESET, unix.ECONNREFUSED, unix.EPIPE} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return strings.Contains(err.Error(), wire.StageEnded)
}

// shimEnded tells whether the shim that was started has ended, reaped or not.
func (cr *creation) shimEnded() bool {
	if cr.shimPid == 0 {
		return false
	}
	state := processState(cr.shimPid)
	return state == "" || state == ended
}
