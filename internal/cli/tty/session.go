package tty

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/portholehq/porthole/internal/detachkeys"
)

// ErrDetached is returned by [Session.Run] when the detach keys were typed.
// Its text is "read escape sequence".
var ErrDetached = detachkeys.ErrDetached

// CheckDetachKeys tells whether keys is a sequence that [Session] understands.
// The empty string stands for the default, ctrl-p ctrl-q, and is fine.
func CheckDetachKeys(keys string) error {
	_, err := detachkeys.Parse(keys)
	return err
}

// Conn is the connection to an attached container or exec. Closing is left to
// whoever opened it.
type Conn interface {
	io.Writer
	CloseWrite() error
}

// Session copies between the standard streams and an attached process.
type Session struct {
	Terminal *Terminal
	// Conn takes what is typed; Reader has what the process prints: raw with
	// TTY, in Docker's frames without. They are the two halves of one
	// hijacked connection.
	Conn   Conn
	Reader io.Reader
	// TTY tells that the process has a terminal of its own. Standard input is
	// then put into raw mode and watched for the detach keys.
	TTY bool
	// DetachKeys as the user wrote them; empty stands for the default.
	DetachKeys string
	// NoDetach passes on whatever is typed.
	NoDetach bool
	// Stdin, Stdout and Stderr tell which streams take part.
	Stdin, Stdout, Stderr bool
	// Debug may be nil.
	Debug *slog.Logger
}

// Run copies until the process has closed its output, the detach keys were
// typed ([ErrDetached]), or ctx ends (its error). When Run returns the
// terminal is as it was before; a copy of standard input may still be blocked
// in a read and ends with the program.
func (s *Session) Run(ctx context.Context) error {
	restore, input, err := s.prepareInput()
	if err != nil {
		return err
	}
	defer restore()

	outputDone := s.copyOutput(restore)
	inputDone, detached := s.copyInput(input, restore)

	select {
	case err := <-outputDone:
		return err
	case err := <-detached:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-inputDone:
	}
	if outputDone == nil {
		return nil
	}
	select {
	case err := <-outputDone:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Session) prepareInput() (restore func(), input io.Reader, err error) {
	if !s.Stdin {
		return func() {}, nil, nil
	}
	if !s.TTY {
		return func() {}, s.Terminal.In, nil
	}
	keys, err := detachkeys.Parse(s.DetachKeys)
	if err != nil {
		return nil, nil, err
	}
	restore, err = s.Terminal.MakeRaw()
	if err != nil {
		return nil, nil, err
	}
	if s.NoDetach {
		return restore, s.Terminal.In, nil
	}
	return restore, detachkeys.NewReader(s.Terminal.In, keys), nil
}

// copyOutput starts copying what the process prints. The channel is nil when
// neither output takes part; it carries one value otherwise.
func (s *Session) copyOutput(restore func()) <-chan error {
	if !s.Stdout && !s.Stderr {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		var err error
		if s.TTY {
			_, err = io.Copy(s.Terminal.Out, s.Reader)
			// What is printed after the end should find a normal terminal.
			restore()
		} else {
			err = Demux(writerOrDiscard(s.Stdout, s.Terminal.Out), writerOrDiscard(s.Stderr, s.Terminal.Err), s.Reader)
		}
		s.log().Debug("end of output", "err", err)
		done <- err
	}()
	return done
}

func writerOrDiscard(wanted bool, w io.Writer) io.Writer {
	if wanted {
		return w
	}
	return io.Discard
}

func (s *Session) copyInput(input io.Reader, restore func()) (done <-chan struct{}, detached <-chan error) {
	end, escape := make(chan struct{}), make(chan error, 1)
	go func() {
		if input != nil {
			_, err := io.Copy(s.Conn, input)
			restore()
			if errors.Is(err, ErrDetached) {
				escape <- err
				return
			}
			// An error in sending shows on the receiving side too.
			s.log().Debug("end of input", "err", err)
		}
		s.log().Debug("closed input of container", "err", s.Conn.CloseWrite())
		close(end)
	}()
	return end, escape
}

func (s *Session) log() *slog.Logger {
	if s.Debug == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Debug
}
