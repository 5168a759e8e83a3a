package command

import (
	"fmt"
	"strings"
	"unicode"
)

// Visible makes what comes from a container or a file harmless for a terminal.
func Visible(s string) string { return visible(s, "") }

// VisibleText is Visible for a text of several lines, which it stays.
func VisibleText(s string) string { return visible(s, "\n\t") }

// Harmless is Visible where standard output is a terminal. A program that reads it
// gets the names of files and the like as they are, as Docker's client gives them.
func (a *App) Harmless(s string) string {
	if a.OutIsTerminal() {
		return Visible(s)
	}
	return s
}

// visibleJSON is a JSON text with control characters in its strings written as
// numbers: JSON allows those beyond ASCII as they are.
func visibleJSON(text string) string {
	var out strings.Builder
	for _, r := range text {
		if r > unicode.MaxASCII && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

func visible(s, kept string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(kept, r):
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
