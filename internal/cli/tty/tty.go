// Package tty is the command line's side of a terminal: the standard streams
// with what is known about them, raw mode that is always undone, window sizes
// that are followed, and the copying between the streams and an attached
// container.
//
// A [Terminal] bundles the three standard streams of one invocation. Raw mode
// is entered with [Terminal.MakeRaw] and left with the function it returns;
// [Terminal.Restore] leaves it from wherever the program ends, a panic
// included. A [Session] copies between the streams and a hijacked connection.
package tty

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/moby/term"
)

// Terminal is the standard streams of one invocation. The zero value has no
// streams; use [New].
type Terminal struct {
	// In is read by commands that take input.
	In io.Reader
	// Out and Err are written to. Commands that print much wrap Out in a
	// buffer of their own.
	Out, Err io.Writer

	in, out end

	mu       sync.Mutex
	restores []func()
}

// end is what is known of one stream: whether it is a terminal and its
// descriptor, which is valid only then.
type end struct {
	fd         uintptr
	isTerminal bool
}

// New returns the Terminal of three streams. Whether they are terminals is
// asked once, here.
func New(in io.Reader, out, err io.Writer) *Terminal {
	t := &Terminal{In: in, Out: out, Err: err}
	t.in.fd, t.in.isTerminal = term.GetFdInfo(in)
	t.out.fd, t.out.isTerminal = term.GetFdInfo(out)
	return t
}

// InIsTerminal tells whether standard input is a terminal.
func (t *Terminal) InIsTerminal() bool { return t.in.isTerminal }

// OutIsTerminal tells whether standard output is a terminal.
func (t *Terminal) OutIsTerminal() bool { return t.out.isTerminal }

// OutFD returns the descriptor of standard output; it means something only
// where OutIsTerminal.
func (t *Terminal) OutFD() uintptr { return t.out.fd }

// Size returns the height and width of the terminal on standard output in
// characters, or zeros when there is none.
func (t *Terminal) Size() (height, width uint) {
	if !t.out.isTerminal {
		return 0, 0
	}
	ws, err := term.GetWinsize(t.out.fd)
	if err != nil {
		return 0, 0
	}
	return uint(ws.Height), uint(ws.Width)
}

// Width returns the width of the controlling terminal, and fallback where
// standard input is not one. Help texts are wrapped to it.
func (t *Terminal) Width(fallback int) int {
	ws, err := term.GetWinsize(t.in.fd)
	if !t.in.isTerminal || err != nil || ws.Width == 0 {
		return fallback
	}
	return int(ws.Width)
}

// errNotTerminal has Docker's wording.
var errNotTerminal = errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal")

// Check refuses to attach a standard input that is not a terminal to a
// container that has one: what is typed there could not be edited or
// interrupted as the container expects.
func (t *Terminal) Check(attachStdin, containerTTY bool) error {
	if !attachStdin || !containerTTY || t.in.isTerminal {
		return nil
	}
	return errNotTerminal
}

// MakeRaw puts the terminals of standard input and output into raw mode and
// returns the function that undoes it, which may be called several times and
// from several goroutines. Streams that are not terminals are left alone, and
// so are all of them when the environment has NORAW set.
func (t *Terminal) MakeRaw() (restore func(), err error) {
	if os.Getenv("NORAW") != "" {
		return func() {}, nil
	}
	var undo []func()
	restore = sync.OnceFunc(func() {
		for _, f := range undo {
			f()
		}
	})
	set := func(e end, raw func(uintptr) (*term.State, error)) error {
		if !e.isTerminal {
			return nil
		}
		state, err := raw(e.fd)
		if err != nil {
			return fmt.Errorf("set terminal to raw mode: %w", err)
		}
		undo = append(undo, func() { _ = term.RestoreTerminal(e.fd, state) })
		return nil
	}
	if err := set(t.in, term.SetRawTerminal); err != nil {
		return nil, err
	}
	if err := set(t.out, term.SetRawTerminalOutput); err != nil {
		restore()
		return nil, err
	}
	t.mu.Lock()
	t.restores = append(t.restores, restore)
	t.mu.Unlock()
	return restore, nil
}

// Restore undoes every raw mode that is still set. The program calls it on
// its way out, whatever that way is.
func (t *Terminal) Restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.restores {
		f()
	}
	t.restores = nil
}
