package shellword

import (
	"strings"
	"testing"
)

// FuzzQuote sees that a name is one word, the same as before, and that nothing of
// it is executed: quotes are taken off as POSIX says, 2.2.2.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "web", "a b", "$(reboot)", "it's", "'", "a\nb", "\x00\xff", "~", "-rf", "#", "a;b", "`x`", "{a,b}", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got strings.Builder
		quoted := false
		text := Quote(s)
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case c == '\'':
				quoted = !quoted
			case quoted:
				got.WriteByte(c)
			case c == '\\' && i+1 < len(text):
				i++
				got.WriteByte(text[i])
			case strings.IndexByte("|&;<>()$`\"* \t\n?[]#~!{}^", c) >= 0 || c >= 0x80:
				t.Fatalf("Quote(%q) = %q has %q outside of quotes", s, text, c)
			default:
				got.WriteByte(c)
			}
		}
		if quoted || got.String() != s || text == "" {
			t.Errorf("Quote(%q) = %q, which is %q", s, text, got.String())
		}
	})
}
