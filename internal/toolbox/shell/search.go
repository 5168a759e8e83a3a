package shell

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// search is ^R: it shows, below the line that is edited, the latest one that has
// what is typed in it. ^R again goes further back, Enter runs it, ^G, ^C and ^U give up, and
// any other key goes on with it in the editor.
type search struct {
	in    io.Reader
	out   io.Writer
	lines *remembered
	width int
	text  string
	at    int // of lines; -1: none matches
}

// The keys of a search.
const (
	keyInterrupt = 3
	keyAbort     = 7
	keyEnter     = '\r'
	keySearch    = 18
	keyKill      = 21
	keyBackspace = 127
)

// run returns the line that was found, and the key that ended the search, which
// is to be done; ok is false if it was given up.
func (s *search) run() (line string, key byte, ok bool) {
	s.at = -1
	var partial []byte
	for {
		s.draw()
		var b [1]byte
		if n, err := s.in.Read(b[:]); n == 0 || err != nil {
			return "", 0, false
		}
		switch c := b[0]; {
		case c == keyAbort || c == keyInterrupt || c == keyKill:
			return "", 0, false
		case c == keySearch:
			if next := s.lines.find(s.text, s.at+1); next >= 0 {
				s.at = next
			}
		case c == keyBackspace || c == '\b':
			_, n := utf8.DecodeLastRuneInString(s.text)
			s.text = s.text[:len(s.text)-n]
			s.at = s.lines.find(s.text, 0)
		case c < ' ':
			if s.at < 0 {
				return "", 0, false
			}
			return s.lines.At(s.at), c, true
		default:
			if partial = append(partial, c); !utf8.FullRune(partial) {
				continue
			}
			s.text += string(partial)
			partial = nil
			s.at = s.lines.find(s.text, max(0, s.at))
		}
	}
}

func (s *search) draw() {
	prefix, found := "(reverse-i-search)", ""
	if s.at >= 0 {
		found = s.lines.At(s.at)
	} else if s.text != "" {
		prefix = "(failed reverse-i-search)"
	}
	line := screen.Visible(fmt.Sprintf("%s`%s': %s", prefix, s.text, found))
	fmt.Fprint(s.out, "\r\x1b[K"+screen.Cut(line, max(1, s.width-1)))
}

// below runs a search in the row below a line of which the cursor is at column
// cursor and the end at column end, both counted without breaks.
func (s *search) below(cursor, end int) (line string, key byte, ok bool) {
	width := max(1, s.width)
	down := end/width - cursor/width
	fmt.Fprint(s.out, strings.Repeat("\x1b[B", down)+"\r\n")
	line, key, ok = s.run()
	fmt.Fprintf(s.out, "\r\x1b[K\x1b[%dA", down+1)
	if column := cursor % width; column > 0 {
		fmt.Fprintf(s.out, "\x1b[%dC", column)
	}
	return line, key, ok
}
