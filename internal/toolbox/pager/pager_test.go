package pager

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, content string) *source {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := openSource(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

func all(s *source) (lines []string) {
	for i := 0; s.has(i); i++ {
		lines = append(lines, string(s.line(i)))
	}
	return lines
}

func TestSource(t *testing.T) {
	for content, want := range map[string][]string{
		"":             nil,
		"a":            {"a"},
		"a\n":          {"a"},
		"a\n\nb":       {"a", "", "b"},
		"a\r\nb\n\n":   {"a", "b", ""},
		"\n":           {""},
		"größe\x00b\n": {"größe\x00b"},
	} {
		s := open(t, content)
		if diff := cmp.Diff(want, all(s)); diff != "" {
			t.Errorf("%q (-want +got)\n%s", content, diff)
		}
		if n := s.count(); n != len(want) {
			t.Errorf("%q: %d lines, want %d", content, n, len(want))
		}
	}
}

// A file is read as far as it is looked at, and what is added later is found.
func TestSourceGrows(t *testing.T) {
	s := open(t, strings.Repeat("0123456789\n", 100_000)+"half")
	if !s.has(10) || s.scanned > 64<<10 {
		t.Errorf("for line 10, %d bytes were read", s.scanned)
	}
	if s.has(100_001) || string(s.line(100_000)) != "half" {
		t.Error("the last line is not the last")
	}
	f, err := os.OpenFile(s.name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(" and half\nmore\n"); err != nil {
		t.Fatal(err)
	}
	if !s.has(100_001) || string(s.line(100_000)) != "half and half" || string(s.line(100_001)) != "more" {
		t.Errorf("after more was written: %q", s.line(100_000))
	}
}

func TestPipe(t *testing.T) {
	r, w := io.Pipe()
	s, err := openSource("-", r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "one\ntw")
	<-s.more
	if diff := cmp.Diff([]string{"one", "tw"}, all(s)); diff != "" {
		t.Error(diff)
	}
	fmt.Fprint(w, "o\n")
	w.Close()
	for range s.more { // until it is closed
		continue
	}
	if diff := cmp.Diff([]string{"one", "two"}, all(s)); diff != "" {
		t.Error(diff)
	}
}

func TestLayout(t *testing.T) {
	tests := []struct {
		name, line string
		colors     bool
		match      string
		width      int
		want       []string
	}{
		{name: "wrapped", line: "abcdef", width: 4, want: []string{"abcd", "ef"}},
		{name: "empty", line: "", width: 4, want: []string{""}},
		{name: "tab", line: "a\tb", width: 20, want: []string{"a       b"}},
		{name: "control characters", line: "a\x1b[2Jb\x01", width: 40, want: []string{"a\x1b[7m^[\x1b[27m[2Jb\x1b[7m^A\x1b[27m"}},
		{name: "no character", line: "\xff", width: 40, want: []string{"\x1b[7m<FF>\x1b[27m"}},
		{name: "C1", line: "a\u009b2J", width: 40, want: []string{"a<U+009B>2J"}},
		{name: "colors", line: "a\x1b[31mb\x1b[m", colors: true, width: 40, want: []string{"a\x1b[31mb\x1b[m"}},
		{name: "no other sequence", line: "a\x1b[31mb\x1b[2J", colors: true, width: 40, want: []string{"a\x1b[31mb\x1b[7m^[\x1b[27m[2J"}},
		{name: "overstruck", line: "b\bbo\bol\bld", width: 40, want: []string{"bold"}},
		{name: "wide", line: "日本語", width: 5, want: []string{"日本", "語"}},
		{name: "match", line: "a日b", match: "日", width: 40, want: []string{"a\x1b[7m日\x1b[27mb"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, plain, at := glyphs([]byte(tt.line), tt.colors)
			if tt.match != "" {
				mark(list, plain, at, regexp.MustCompile(tt.match))
			}
			var got []string
			for _, r := range rows(list, tt.width) {
				got = append(got, text(r))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	list, _, _ := glyphs([]byte("0123456789"), false)
	if got := text(chop(list, 3, 4)); got != "3456" {
		t.Errorf("cut out: %q", got)
	}
	if got := text(chop(list, 30, 4)); got != "" {
		t.Errorf("right of the end: %q", got)
	}
}

// Without a terminal it is cat.
func TestPass(t *testing.T) {
	s := open(t, "file\x1b\n")
	var out, stderr bytes.Buffer
	if code := Main(strings.NewReader("input\n"), &out, &stderr, []string{"-N", s.name, "-"}); code != 0 || out.String() != "file\x1b\ninput\n" {
		t.Errorf("%d, %q, %q", code, out.String(), stderr.String())
	}
	if code := Main(nil, &out, &stderr, []string{"/nonexistent"}); code != 1 || !strings.Contains(stderr.String(), "no such file") {
		t.Errorf("missing: %d, %q", code, stderr.String())
	}
}

func TestOptions(t *testing.T) {
	o, files, err := parse([]string{"-NS", "--RAW-CONTROL-CHARS", "+12", "-p", "x y", "a", "--", "-b"})
	if err != nil || !o.numbers || !o.chop || !o.colors || o.fits || o.first != "/x y" {
		t.Errorf("%+v, %v", o, err)
	}
	if diff := cmp.Diff([]string{"a", "-b"}, files); diff != "" {
		t.Error(diff)
	}
	for _, args := range [][]string{{"-Z"}, {"--nonsense"}, {"-Np"}} {
		var stderr bytes.Buffer
		if code := Main(nil, io.Discard, &stderr, args); code != 2 || !strings.HasPrefix(stderr.String(), "less: ") {
			t.Errorf("%q: %d, %q", args, code, stderr.String())
		}
	}
}
