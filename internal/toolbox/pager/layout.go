package pager

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// glyph is what is shown of a character of a line.
type glyph struct {
	text  string // no control characters
	width int
	style string // what stands before it
	hit   bool   // it belongs to a match
}

// sgr is a sequence for colors, the only one that -R lets through: ECMA-48,
// Select Graphic Rendition.
var sgr = regexp.MustCompile(`^\x1b\[[0-9;:]*m`)

// glyphs reads a line. Control characters become visible; with colors set, those
// for colors have their effect. plain is the text to search in, and at[i] is the
// glyph of its byte i.
func glyphs(raw []byte, colors bool) (list []glyph, plain string, at []int) {
	var b strings.Builder
	column, style := 0, ""
	for text := string(raw); len(text) > 0; {
		if code := sgr.FindString(text); code != "" && colors {
			style += code
			text = text[len(code):]
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		// A character, a backspace and another is print for bold or underlined.
		if rest := text[n:]; len(rest) > 1 && rest[0] == '\b' {
			text = rest[1:]
			continue
		}
		g := glyph{text: text[:n], style: style}
		style = ""
		switch {
		case r == '\t':
			g.text = strings.Repeat(" ", 8-column%8)
			g.width = len(g.text)
		case r == utf8.RuneError && n == 1, r < ' ', r == 0x7f:
			g.text = screen.Reverse + screen.Visible(text[:n]) + "\x1b[27m"
			g.width = screen.Width(screen.Visible(text[:n]))
		default:
			g.text = screen.Visible(text[:n])
			g.width = screen.Width(g.text)
		}
		for range n {
			at = append(at, len(list))
		}
		b.WriteString(text[:n])
		list = append(list, g)
		column += g.width
		text = text[n:]
	}
	if style != "" && len(list) > 0 {
		list[len(list)-1].text += style
	}
	return list, b.String(), at
}

// mark marks what a pattern matches.
func mark(list []glyph, plain string, at []int, re *regexp.Regexp) {
	if re == nil {
		return
	}
	for _, m := range re.FindAllStringIndex(plain, 1000) {
		for i := m[0]; i < m[1]; i++ {
			list[at[i]].hit = true
		}
	}
}

// rows breaks a line into rows of that many columns; there is one at least.
func rows(list []glyph, columns int) [][]glyph {
	var out [][]glyph
	from, used := 0, 0
	for i, g := range list {
		if used+g.width > columns && i > from {
			out = append(out, list[from:i])
			from, used = i, 0
		}
		used += g.width
	}
	return append(out, list[from:])
}

// chop leaves out what is left of a column and what does not fit.
func chop(list []glyph, from, columns int) []glyph {
	column, first, last := 0, len(list), len(list)
	for i, g := range list {
		if column >= from && first == len(list) {
			first = i
		}
		if column+g.width > from+columns {
			last = i
			break
		}
		column += g.width
	}
	return list[min(first, last):last]
}

// text puts glyphs together.
func text(list []glyph) string {
	var b strings.Builder
	hit := false
	for _, g := range list {
		b.WriteString(g.style)
		if g.hit != hit {
			hit = g.hit
			if hit {
				b.WriteString(screen.Reverse)
			} else {
				b.WriteString("\x1b[27m")
			}
		}
		b.WriteString(g.text)
	}
	return b.String()
}
