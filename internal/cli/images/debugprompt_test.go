package images

import "testing"

func TestWithHistory(t *testing.T) {
	const text = "FROM x\nRUN a\nRUN b\n"
	for _, c := range []struct {
		history []string
		want    string
	}{
		{nil, text},
		{[]string{"apk add y", "one\ntwo"}, "FROM x\nRUN a\nRUN apk add y\nRUN one \\\ntwo\nRUN b\n"},
	} {
		if got := withHistory(text, c.history, 3); got != c.want {
			t.Errorf("%q: %q", c.history, got)
		}
	}
}

func TestLineDiff(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"a\n", "a\n", ""},
		{"1\n2\n3\n4\n5\n6\n", "1\n2\n3\nx\n5\n6\n", "  2\n  3\n- 4\n+ x\n  5\n  6\n"},
		{"a\n", "a\nb\n", "  a\n+ b\n"},
		{"a\nb", "a\nc", "  a\n- b\n+ c\n"},
		{"", "a\n", "+ a\n"},
	} {
		if got := lineDiff(c.from, c.to); got != c.want {
			t.Errorf("%q to %q:\n%s\nwant\n%s", c.from, c.to, got, c.want)
		}
	}
}

func TestWithInstruction(t *testing.T) {
	const text = "FROM x\nRUN a \\\n  b\nRUN c"
	for _, c := range []struct {
		line      int
		old, want string
	}{
		{2, "RUN a \\\n  b", "FROM x\nRUN new\nRUN c"},
		{4, "RUN c", "FROM x\nRUN a \\\n  b\nRUN new\n"},
		{1, "FROM x", "RUN new\nRUN a \\\n  b\nRUN c"},
		{3, "RUN c", text}, // it does not stand there
		{9, "RUN c", text},
		{0, "RUN c", text},
	} {
		if got := withInstruction(text, c.line, c.old, "RUN new\n"); got != c.want {
			t.Errorf("line %d: %q", c.line, got)
		}
	}
}
