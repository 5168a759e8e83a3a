package screen

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzVisible holds that no text has an effect on the terminal, that shown again it
// stays as it is, and that what is cut fits.
func FuzzVisible(f *testing.F) {
	f.Add("plain", 3)
	f.Add("\x1b]0;title\a\x9b31m \xff\x7f\u200b\u202e 字\u0301", 4)
	f.Fuzz(func(t *testing.T, text string, columns int) {
		shown := Visible(text)
		for _, r := range shown {
			if !unicode.IsPrint(r) && !unicode.Is(unicode.M, r) {
				t.Errorf("%q is shown with %q", text, r)
			}
		}
		if again := Visible(shown); again != shown {
			t.Errorf("%q is shown as %q, and that as %q", text, shown, again)
		}
		cut := Cut(shown, columns)
		if Width(cut) > max(columns, 0) || len(cut) > len(shown) || shown[:len(cut)] != cut {
			t.Errorf("%q cut to %d is %q", shown, columns, cut)
		}
		if r, n := utf8.DecodeRuneInString(shown[len(cut):]); n > 0 && Width(cut)+RuneWidth(r) <= columns {
			t.Errorf("%q cut to %d is %q, which has room for %q", shown, columns, cut, r)
		}
	})
}

// FuzzKeys holds that each key takes something of what was typed, and that keys are
// the same however the bytes come.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("a\x1b[A\x1bOB\x1b[5~\x1b\x1b[99999999999999999999"), 3)
	f.Add([]byte("\xe5\xad\x97\xff\x1b[\xff"), 2)
	f.Fuzz(func(t *testing.T, typed []byte, piece int) {
		whole, pieces := keysOf(t, typed, len(typed)), keysOf(t, typed, piece)
		if string(whole) != string(pieces) {
			t.Errorf("%q is %q, in pieces of %d %q", typed, whole, piece, pieces)
		}
	})
}

// keysOf are the keys of what comes in pieces.
func keysOf(t *testing.T, typed []byte, piece int) (keys []rune) {
	t.Helper()
	var pending []byte
	for len(typed) > 0 {
		n := min(max(piece, 1), len(typed))
		pending, typed = append(pending, typed[:n]...), typed[n:]
		for len(pending) > 0 {
			key, n := decodeKey(pending)
			if n < 0 || n > len(pending) {
				t.Fatalf("%d bytes of %q", n, pending)
			}
			if n == 0 {
				break
			}
			keys, pending = append(keys, rune(key)), pending[n:]
		}
	}
	return keys
}
