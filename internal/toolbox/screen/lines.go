package screen

import (
	"bytes"
	"io"
	"strings"
)

// Lines is a writer to a terminal of lines that are made of names: all that a name
// could do to the terminal is made visible, but tabs.
type Lines struct {
	to   io.Writer
	rest []byte // a line that has no end yet
}

// NewLines returns a writer to w.
func NewLines(w io.Writer) *Lines { return &Lines{to: w} }

// Write passes whole lines on, and keeps the rest.
func (l *Lines) Write(p []byte) (int, error) {
	for rest := p; ; {
		before, after, ok := bytes.Cut(rest, []byte{'\n'})
		if !ok {
			l.rest = append(l.rest, rest...)
			return len(p), nil
		}
		line := append(l.rest, before...)
		l.rest, rest = nil, after
		if _, err := io.WriteString(l.to, visibleFields(string(line))+"\n"); err != nil {
			return 0, err
		}
	}
}

// Flush passes on a last line without an end.
func (l *Lines) Flush() error {
	_, err := io.WriteString(l.to, visibleFields(string(l.rest)))
	l.rest = nil
	return err
}

func visibleFields(line string) string {
	fields := strings.Split(line, "\t")
	for i := range fields {
		fields[i] = Visible(fields[i])
	}
	return strings.Join(fields, "\t")
}
