// Package screen is a terminal for programs that use all of it: keys come in, and
// whole pictures go out.
//
//	s, err := screen.Open(os.Stdin, os.Stdout)
//	defer s.Close()
//	for e := range s.Events() { ...; s.Draw(lines, row, column) }
//
// [Visible] makes any text fit to be shown.
package screen

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// ErrNoTerminal is returned by Open for files that are no terminals.
var ErrNoTerminal = errors.New("not a terminal")

// Key is a key: a character, or one of the constants.
type Key rune

// Keys without a character.
const (
	Up Key = utf8.MaxRune + 1 + iota
	Down
	Left
	Right
	Home
	End
	PageUp
	PageDown
	Delete
	Unknown
)

// Keys with one.
const (
	Escape    Key = 27
	Enter     Key = '\r'
	Backspace Key = 127
)

// Ctrl is the key that gives a control character.
func Ctrl(letter rune) Key { return Key(letter & 0x1f) }

// Event is a key, or that something else has happened.
type Event struct {
	Key    Key
	Resize bool // the size is another
	Ended  bool // the terminal has gone, or the program is to end; the last event
}

// Screen is an open terminal. Its methods are for one goroutine.
type Screen struct {
	in, out *os.File
	old     *term.State
	events  chan Event
	done    chan struct{}
	signals chan os.Signal
	closing sync.Once
}

// Open takes the terminal over, until Close. Keys are read from in.
func Open(in, out *os.File) (*Screen, error) {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, ErrNoTerminal
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set terminal: %w", err)
	}
	s := &Screen{in: in, out: out, old: old, events: make(chan Event, 16), done: make(chan struct{}), signals: make(chan os.Signal, 4)}
	fmt.Fprint(out, "\x1b[?1049h") // a screen of its own; what was shown comes back
	signal.Notify(s.signals, syscall.SIGWINCH, syscall.SIGTERM, syscall.SIGHUP)
	bytes := make(chan []byte)
	go s.read(bytes)
	go s.decode(bytes)
	return s, nil
}

// Terminal is the terminal to read keys from when the standard input is
// something else; the caller closes it.
func Terminal() (*os.File, error) {
	if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		return f, nil
	}
	// In a container without that file.
	fd, err := syscall.Dup(int(os.Stderr.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	if !term.IsTerminal(fd) {
		_ = syscall.Close(fd)
		return nil, ErrNoTerminal
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// Close gives the terminal back as it was. It does not close the files.
func (s *Screen) Close() {
	s.closing.Do(func() {
		signal.Stop(s.signals)
		close(s.done)
		fmt.Fprint(s.out, "\x1b[m\x1b[?25h\x1b[?1049l")
		_ = term.Restore(int(s.in.Fd()), s.old)
	})
}

// Events are what happens. A screen that is closed sends nothing more.
func (s *Screen) Events() <-chan Event { return s.events }

// Size is how many rows and columns there are, at least one of each.
func (s *Screen) Size() (rows, columns int) {
	columns, rows, err := term.GetSize(int(s.out.Fd()))
	if err != nil || columns < 1 || rows < 1 {
		return 24, 80
	}
	return rows, columns
}

// Style turns of a text, for Draw.
const (
	Reverse = "\x1b[7m"
	Bold    = "\x1b[1m"
	Plain   = "\x1b[m"
)

// Draw shows lines from the top; what is below them is blank. The lines have no
// control characters but styles, and fit. The cursor stands at row and column,
// which count from 0; it is hidden if row is negative.
func (s *Screen) Draw(lines []string, row, column int) {
	var b strings.Builder
	b.WriteString("\x1b[?25l\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l)
		b.WriteString("\x1b[m\x1b[K")
	}
	b.WriteString("\x1b[J")
	if row >= 0 {
		fmt.Fprintf(&b, "\x1b[%d;%dH\x1b[?25h", row+1, column+1)
	}
	_, _ = s.out.WriteString(b.String()) // a terminal that has gone ends the events
}

// Bell asks for attention.
func (s *Screen) Bell() { _, _ = s.out.WriteString("\a") }

// read passes on what is typed. It ends with the terminal: nothing gets a read
// of a terminal back, but the process ends soon after Close, or nobody reads the
// terminal while it goes on.
func (s *Screen) read(to chan<- []byte) {
	defer close(to)
	for {
		buf := make([]byte, 256)
		n, err := s.in.Read(buf)
		if n > 0 {
			select {
			case to <- buf[:n]:
			case <-s.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// escapeTime is how long the rest of a key's sequence may take; after it the
// escape was a key itself.
const escapeTime = 60 * time.Millisecond

func (s *Screen) decode(from <-chan []byte) {
	var pending []byte
	for {
		for len(pending) > 0 {
			key, n := decodeKey(pending)
			if n == 0 {
				break
			}
			pending = pending[n:]
			if !s.send(Event{Key: key}) {
				return
			}
		}
		var late <-chan time.Time
		if len(pending) > 0 {
			late = time.After(escapeTime)
		}
		select {
		case more, ok := <-from:
			if !ok {
				s.send(Event{Ended: true})
				return
			}
			pending = append(pending, more...)
		case <-late:
			key, _ := utf8.DecodeRune(pending)
			pending = pending[1:]
			if !s.send(Event{Key: Key(key)}) {
				return
			}
		case sig := <-s.signals:
			if !s.send(Event{Resize: sig == syscall.SIGWINCH, Ended: sig != syscall.SIGWINCH}) {
				return
			}
		case <-s.done:
			return
		}
	}
}

func (s *Screen) send(e Event) bool {
	select {
	case s.events <- e:
		return true
	case <-s.done:
		return false
	}
}

// sequences are what terminals send for keys without a character, after the
// escape: ECMA-48 and xterm's ctlseqs.
var sequences = map[string]Key{
	"[A": Up, "[B": Down, "[C": Right, "[D": Left, "[H": Home, "[F": End,
	"OA": Up, "OB": Down, "OC": Right, "OD": Left, "OH": Home, "OF": End,
	"[1~": Home, "[4~": End, "[7~": Home, "[8~": End, "[3~": Delete, "[5~": PageUp, "[6~": PageDown,
}

// decodeKey takes the first key from what was typed; n is 0 if its end has not
// come yet.
func decodeKey(b []byte) (key Key, n int) {
	if b[0] != 27 {
		if !utf8.FullRune(b) {
			return 0, 0
		}
		r, n := utf8.DecodeRune(b)
		if r == '\b' {
			r = 127
		}
		return Key(r), n
	}
	if len(b) == 1 {
		return 0, 0
	}
	if b[1] != '[' && b[1] != 'O' {
		return Escape, 1
	}
	const longest = 17 // bytes of a sequence, whether they come at once or not
	for i := 2; i < min(len(b), longest); i++ {
		if c := b[i]; c >= 0x40 && c <= 0x7e {
			if key, ok := sequences[string(b[1:i+1])]; ok {
				return key, i + 1
			}
			return Unknown, i + 1
		}
	}
	if len(b) >= longest {
		return Escape, 1
	}
	return 0, 0
}
