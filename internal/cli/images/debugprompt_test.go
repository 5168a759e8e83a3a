package images

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// What an image has chosen does nothing to the terminal.
func TestDebuggerIsHarmless(t *testing.T) {
	var out bytes.Buffer
	const evil = "a\x1b]0;b\x07\u202ec"
	d := &debugger{a: &command.App{Terminal: &tty.Terminal{Out: &out}}, stop: &api.BuildStop{
		Reason: api.BuildStopFailure, Instruction: "RUN x\n  " + evil, Cause: evil, Error: evil, Env: []string{"E=" + evil}, User: evil, Cwd: evil,
		Args: map[string]string{"B": evil, "A": "1"}, Mounts: []api.BuildMount{{Destination: "/" + evil, Type: "bind"}},
	}}
	d.tellStop()
	if _, err := d.env(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	d.showFile("two\n\tlines\n" + evil)
	if err := d.showFiles([]api.BuildFile{{Name: evil, Link: evil}}); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if strings.ContainsAny(got, "\x1b\x07\u202e") {
		t.Errorf("printed:\n%q", got)
	}
	for _, want := range []string{"two\n\tlines\n", "A=1\nargument     B=a"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestMoveBreaks(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int
	}{
		{"RUN one", []int{1, 4, 4}}, {"RUN one\n", []int{1, 4, 4}}, {"RUN a \\\n b", []int{1, 4, 5}}, {"RUN a\nRUN b\nRUN c\n", []int{1, 4, 6}},
	} {
		d := &debugger{stop: &api.BuildStop{Line: 3, End: 4}, breaks: []int{1, 4, 5}}
		if d.moveBreaks(c.text); !slices.Equal(d.breaks, c.want) {
			t.Errorf("%q: %v, want %v", c.text, d.breaks, c.want)
		}
	}
}

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
