package build

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInstructionsOf(t *testing.T) {
	const text = `# syntax=docker/dockerfile:1
ARG V=1
FROM busybox AS base
ENV A=b
RUN echo one \
 && echo two
RUN <<END
three
END
FROM base AS middle
COPY --from=base /a /b
FROM middle
CMD ["x"]
`
	for _, c := range []struct {
		target string
		want   []instruction
	}{
		{"middle", []instruction{
			{head: "ARG V=1", start: 2, end: 2, early: true},
			{head: "FROM busybox AS base", start: 3, end: 3, from: true},
			{head: "ENV A=b", start: 4, end: 4},
			{head: "RUN echo one  && echo two", start: 5, command: "/bin/sh -c echo one  && echo two", end: 6, works: true},
			{head: "RUN <<END", start: 7, command: "/bin/sh -c <<END", end: 9, works: true},
			{head: "FROM base AS middle", start: 10, end: 10, from: true, last: true},
			{head: "COPY --from=base /a /b", start: 11, end: 11, works: true, last: true},
		}},
		{"base", []instruction{
			{head: "ARG V=1", start: 2, end: 2, early: true},
			{head: "FROM busybox AS base", start: 3, end: 3, from: true, last: true},
			{head: "ENV A=b", start: 4, end: 4, last: true},
			{head: "RUN echo one  && echo two", start: 5, command: "/bin/sh -c echo one  && echo two", end: 6, works: true, last: true},
			{head: "RUN <<END", start: 7, command: "/bin/sh -c <<END", end: 9, works: true, last: true},
		}},
	} {
		got, err := instructionsOf([]byte(text), c.target)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(instruction{})); diff != "" {
			t.Errorf("target %s (-want +got):\n%s", c.target, diff)
		}
	}
	for text, want := range map[string]string{
		"":                     "file with no instructions",
		"ARG X\n":              "could not be found",
		"FROM x\nRUMBLE y\n":   "unknown instruction: RUMBLE",
		"FROM x\nCOPY\n":       "COPY requires at least",
		"RUN before the FROM":  "no build stage in current context",
		"FROM x AS a\n# none:": "could not be found",
	} {
		if _, err := instructionsOf([]byte(text), "nowhere"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzInstructionsOf(f *testing.F) {
	f.Add("FROM busybox\nRUN <<A <<B\na\nA\nb\nB\n", "")
	f.Add("FROM a AS b\r\nRUN x \\\r\n y\r\nFROM b", "b")
	f.Fuzz(func(t *testing.T, text, target string) {
		list, err := instructionsOf([]byte(text), target)
		if err != nil {
			return
		}
		lines := len(strings.SplitAfter(text, "\n"))
		for i, in := range list {
			if in.start < 1 || in.start > in.end || in.end > lines || i > 0 && in.end < list[i-1].end {
				t.Errorf("instruction %d ends in line %d of %d", i, in.end, lines)
			}
		}
	})
}
