package screen

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible is text as a terminal may show it: what is not printable stands in
// carets and angle brackets, as less has it ("^[", "<FF>", "<U+200B>"). The
// text has no effect on the terminal any more. A blank or a character of several
// bytes stays.
func Visible(text string) string {
	plain := true
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			plain = false
			break
		}
	}
	if plain {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "<%02X>", text[0])
		case r < ' ' || r == 0x7f:
			b.WriteByte('^')
			b.WriteRune(r ^ 0x40)
		case unicode.IsPrint(r) || unicode.Is(unicode.M, r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
		text = text[n:]
	}
	return b.String()
}

// wide are the ranges of characters that take two columns, by Unicode's
// EastAsianWidth.txt, and emoji.
var wide = [][2]rune{
	{0x1100, 0x115f},
	{0x2e80, 0x303e},
	{0x3041, 0xa4cf},
	{0xac00, 0xd7a3},
	{0xf900, 0xfaff},
	{0xfe30, 0xfe6f},
	{0xff00, 0xff60},
	{0xffe0, 0xffe6},
	{0x1f300, 0x1f64f},
	{0x1f680, 0x1f6ff},
	{0x1f900, 0x1f9ff},
	{0x20000, 0x3fffd},
}

// RuneWidth is how many columns a printable character takes: 0 to 2.
func RuneWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	for _, w := range wide {
		if r >= w[0] && r <= w[1] {
			return 2
		}
	}
	return 1
}

// Width is how many columns a text without control characters takes.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n += RuneWidth(r)
	}
	return n
}

// Cut is the beginning of a text without control characters, as much as fits in
// that many columns.
func Cut(text string, columns int) string {
	n := 0
	for i, r := range text {
		if n += RuneWidth(r); n > columns {
			return text[:i]
		}
	}
	return text
}
