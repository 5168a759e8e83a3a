package screen

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "größe 日本": "größe 日本", "a\x1b[2Jb": "a^[[2Jb", "\x00\x7f\r\n\t": "^@^?^M^J^I",
		"\xff": "<FF>", "\u009b31m": "<U+009B>31m", "a\u202eb": "a<U+202E>b", "e\u0301": "e\u0301",
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{"abc": 3, "日本": 4, "e\u0301": 1, "": 0} {
		if got := Width(text); got != want {
			t.Errorf("%q is %d wide, want %d", text, got, want)
		}
	}
	if got := Cut("a日本", 4); got != "a日" {
		t.Errorf("cut to 4: %q", got)
	}
}

func TestLines(t *testing.T) {
	var out strings.Builder
	l := NewLines(&out)
	for _, part := range []string{"4\ta\x1b", "[2Jb\nc\n\n", "last"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("4\ta^[[2Jb\nc\n\nlast", out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDecodeKey(t *testing.T) {
	for text, want := range map[string][]Key{
		"a":              {'a'},
		"ö":              {'ö'},
		"\x1b[A\x1bOB":   {Up, Down},
		"\x1b[5~x":       {PageUp, 'x'},
		"\x1b:":          {Escape, ':'},
		"\x1b[1;5C":      {Unknown},
		"\b\x7f\r":       {Backspace, Backspace, Enter},
		"\x1b[200~a\x03": {Unknown, 'a', Ctrl('c')},
	} {
		var got []Key
		for b := []byte(text); len(b) > 0; {
			k, n := decodeKey(b)
			if n == 0 {
				t.Fatalf("%q: the end of %q has not come", text, b)
			}
			got, b = append(got, k), b[n:]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got)\n%s", text, diff)
		}
	}
	for _, text := range []string{"\x1b", "\x1b[", "\x1b[1", "\xc3"} {
		if _, n := decodeKey([]byte(text)); n != 0 {
			t.Errorf("%q is taken for whole", text)
		}
	}
}
