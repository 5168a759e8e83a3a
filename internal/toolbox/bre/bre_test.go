package bre

import (
	"regexp"
	"strings"
	"testing"
)

func TestExtended(t *testing.T) {
	for _, c := range []struct{ basic, in, want string }{
		{`a+`, "aa+", "a+"},
		{`a\+`, "xaay", "aa"},
		{`\(a\|b\)\{2\}`, "xaby", "ab"},
		{`*a`, "x*a", "*a"},
		{`[]x]*`, "]x]", "]x]"},
		{`[^]]*`, "ab]", "ab"},
		{`[(+]`, "a+", "+"},
		{`\<is\>`, "this is", "is"},
		{`a.c$`, "abc", "abc"},
		{`\.`, "a.b", "."},
	} {
		re, err := regexp.Compile(Extended(c.basic))
		if err != nil {
			t.Errorf("%s: %v", c.basic, err)
			continue
		}
		if got := re.FindString(c.in); got != c.want {
			t.Errorf("%s in %q: %q, want %q", c.basic, c.in, got, c.want)
		}
	}
	if at := regexp.MustCompile(Extended(`\<is\>`)).FindStringIndex("this is"); at[0] != 5 {
		t.Errorf("a word is found at %d", at[0])
	}
}

func TestExpand(t *testing.T) {
	line := "key=value"
	match := regexp.MustCompile(`(\w+)=(\w+)(x)?`).FindStringSubmatchIndex(line)
	for replacement, want := range map[string]string{
		`\2=\1`: "value=key", `<&>`: "<key=value>", `\&\\`: `&\`, `\3.`: ".", `\9`: "", `a\nb\tc\q`: "a\nb\tcq", `end\`: `end\`,
	} {
		var b strings.Builder
		Expand(&b, replacement, line, match, map[byte]byte{'n': '\n', 't': '\t'})
		if b.String() != want {
			t.Errorf("%s: %q, want %q", replacement, b.String(), want)
		}
	}
}
