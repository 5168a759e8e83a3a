package command

import (
	"strings"
	"unicode"
)

// Visible makes what comes from a container or a file harmless for a terminal.
func Visible(s string) string { return visible(s, "") }

// VisibleText is Visible for a text of several lines, which it stays.
func VisibleText(s string) string { return visible(s, "\n\t") }

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
