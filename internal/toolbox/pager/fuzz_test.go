package pager

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// ours are the sequences that the pager itself writes.
var ours = strings.NewReplacer(screen.Reverse, "", "\x1b[27m", "")

// FuzzGlyphs holds of a line of a file: what is shown has no control character but
// the pager's own and, where they are asked for, sequences for colors; its rows are
// no wider than the screen and together what they are of; and a search marks what it
// finds.
func FuzzGlyphs(f *testing.F) {
	f.Add([]byte("plain\ttext"), "t", 10, 3)
	f.Add([]byte("\x1b[1;31mred\x1b[0m \x1b]0;title\a\x9b31m"), "red", 4, 0)
	f.Add([]byte("b\bbold _\bunder \b\b\xe5\xad\x97\b\xff\xff\b"), "", 1, 2)
	f.Add([]byte("\u202e\u200b e\u0301\U0001f600字字字"), "字", 3, 1)
	f.Add([]byte("\x1b[31m"), ".", 1, 0)
	f.Fuzz(func(t *testing.T, raw []byte, pattern string, columns, from int) {
		columns, from = max(10, columns%200), max(0, from%200) // no character is shown wider
		re, err := regexp.Compile(pattern)
		if err != nil {
			re = nil
		}
		for _, colors := range []bool{false, true} {
			list, plain, at := glyphs(raw, colors)
			if len(at) != len(plain) {
				t.Fatalf("%q: %d places for %d bytes", raw, len(at), len(plain))
			}
			mark(list, plain, at, re)
			if re != nil {
				for _, m := range re.FindAllStringIndex(plain, 1000) {
					for i := m[0]; i < m[1]; i++ {
						if !list[at[i]].hit {
							t.Errorf("%q: %q is found at %d, and not marked", raw, pattern, i)
						}
					}
				}
			}
			var whole []glyph
			for _, row := range rows(list, columns) {
				checkShown(t, raw, row, colors, columns)
				whole = append(whole, row...)
			}
			if text(whole) != text(list) {
				t.Errorf("%q: the rows are %q, the line is %q", raw, text(whole), text(list))
			}
			checkShown(t, raw, chop(list, from, columns), colors, columns)
		}
	})
}

func checkShown(t *testing.T, raw []byte, row []glyph, colors bool, columns int) {
	t.Helper()
	width := 0
	for _, g := range row {
		width += g.width
	}
	if width > columns {
		t.Errorf("%q: a row of %d columns has %d", raw, columns, width)
	}
	shown := ours.Replace(text(row))
	for at := 0; colors && at < len(shown); at++ {
		if code := sgr.FindString(shown[at:]); code != "" {
			shown, at = shown[:at]+shown[at+len(code):], at-1
		}
	}
	for _, r := range shown {
		if !unicode.IsPrint(r) && !unicode.Is(unicode.M, r) {
			t.Errorf("%q is shown with %q: %q", raw, r, text(row))
		}
	}
}
