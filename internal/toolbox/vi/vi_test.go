package vi

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// typeKeys types; "\x1b" is the escape key, "\r" Enter.
func typeKeys(e *editor, keys string) {
	for _, r := range keys {
		e.key(screen.Key(r))
	}
}

func TestKeys(t *testing.T) {
	const text = "one two three\n\tfour = (five, six)\n\nlast line\n"
	tests := []struct{ name, keys, want string }{
		{"nothing", "jjkl", text},
		{"insert", "ix\x1b", "xone two three\n\tfour = (five, six)\n\nlast line\n"},
		{"insert with a count", "3iab\x1b", "abababone two three\n\tfour = (five, six)\n\nlast line\n"},
		{"repeat it", "2ix\x1b.", "xxxxone two three\n\tfour = (five, six)\n\nlast line\n"},
		{"append at the end", "A!\x1b", "one two three!\n\tfour = (five, six)\n\nlast line\n"},
		{"insert at the indent", "jI# \x1b", "one two three\n\t# four = (five, six)\n\nlast line\n"},
		{"line below", "onew\x1b", "one two three\nnew\n\tfour = (five, six)\n\nlast line\n"},
		{"line above", "Onew\x1b", "new\none two three\n\tfour = (five, six)\n\nlast line\n"},
		{"Enter", "wi\r\x1b", "one \ntwo three\n\tfour = (five, six)\n\nlast line\n"},
		{"Backspace", "A\x7f\x7f\x1b", "one two thr\n\tfour = (five, six)\n\nlast line\n"},
		{"Backspace over a line's end", "ji\x7f\x1b", "one two three\tfour = (five, six)\n\nlast line\n"},
		{"replace", "Rab\x1b", "abe two three\n\tfour = (five, six)\n\nlast line\n"},
		{"replace one", "3rx", "xxx two three\n\tfour = (five, six)\n\nlast line\n"},
		{"replace more than there are", "99rx", text},
		{"x", "3x", " two three\n\tfour = (five, six)\n\nlast line\n"},
		{"X", "$X", "one two thre\n\tfour = (five, six)\n\nlast line\n"},
		{"dw", "dw", "two three\n\tfour = (five, six)\n\nlast line\n"},
		{"d2w", "d2w", "three\n\tfour = (five, six)\n\nlast line\n"},
		{"2dw", "2dw", "three\n\tfour = (five, six)\n\nlast line\n"},
		{"dw at the end leaves the line", "$bdw", "one two \n\tfour = (five, six)\n\nlast line\n"},
		{"de", "de", " two three\n\tfour = (five, six)\n\nlast line\n"},
		{"db", "wdb", "two three\n\tfour = (five, six)\n\nlast line\n"},
		{"d$", "wd$", "one \n\tfour = (five, six)\n\nlast line\n"},
		{"D", "wD", "one \n\tfour = (five, six)\n\nlast line\n"},
		{"d0", "wd0", "two three\n\tfour = (five, six)\n\nlast line\n"},
		{"dd", "dd", "\tfour = (five, six)\n\nlast line\n"},
		{"2dd", "2dd", "\nlast line\n"},
		{"dj", "dj", "\nlast line\n"},
		{"dG", "jdG", "one two three\n"},
		{"dgg", "jjdgg", "last line\n"},
		{"all lines", "dG", ""},
		{"dt", "dtt", "two three\n\tfour = (five, six)\n\nlast line\n"},
		{"df", "dft", "wo three\n\tfour = (five, six)\n\nlast line\n"},
		{"d%", "jf(d%", "one two three\n\tfour = \n\nlast line\n"},
		{"d/", "2wd0", "three\n\tfour = (five, six)\n\nlast line\n"},
		{"cw", "cwONE\x1b", "ONE two three\n\tfour = (five, six)\n\nlast line\n"},
		{"cc", "jccx\x1b", "one two three\nx\n\nlast line\n"},
		{"S of the only lines", "4Sx\x1b", "x\n"},
		{"C", "wCx\x1b", "one x\n\tfour = (five, six)\n\nlast line\n"},
		{"s", "2sx\x1b", "xe two three\n\tfour = (five, six)\n\nlast line\n"},
		{"J", "J", "one two three four = (five, six)\n\nlast line\n"},
		{"~", "3~", "ONE two three\n\tfour = (five, six)\n\nlast line\n"},
		{"yyp", "yyp", "one two three\none two three\n\tfour = (five, six)\n\nlast line\n"},
		{"yyP at the end", "GyyP", "one two three\n\tfour = (five, six)\n\nlast line\nlast line\n"},
		{"ddp", "ddp", "\tfour = (five, six)\none two three\n\nlast line\n"},
		{"xp", "xp", "noe two three\n\tfour = (five, six)\n\nlast line\n"},
		{"ywP", "ywP", "one one two three\n\tfour = (five, six)\n\nlast line\n"},
		{"3p", "yl3p", "oooone two three\n\tfour = (five, six)\n\nlast line\n"},
		{">>", ">>", "\tone two three\n\tfour = (five, six)\n\nlast line\n"},
		{"<<", "j<<", "one two three\nfour = (five, six)\n\nlast line\n"},
		{"undo", "ddddu", "\tfour = (five, six)\n\nlast line\n"},
		{"undo all", "ddddAx\x1buuu", text},
		{"redo", "ddddu\x12", "\nlast line\n"},
		{"repeat", "xw.", "ne wo three\n\tfour = (five, six)\n\nlast line\n"},
		{"repeat an insertion", "cwX\x1bww.", "X two X\n\tfour = (five, six)\n\nlast line\n"},
		{"repeat dd", "dd..", "last line\n"},
		{"undo of a repetition", "x.u", "ne two three\n\tfour = (five, six)\n\nlast line\n"},
		{"search", "/five\rx", "one two three\n\tfour = (ive, six)\n\nlast line\n"},
		{"search around", "G/one\rx", "ne two three\n\tfour = (five, six)\n\nlast line\n"},
		{"search back", "G?t\rx", "one two hree\n\tfour = (five, six)\n\nlast line\n"},
		{"next", "/t\rnx", "one two hree\n\tfour = (five, six)\n\nlast line\n"},
		{"no match changes nothing", "/nowhere\rx", "ne two three\n\tfour = (five, six)\n\nlast line\n"},
		{"substitute", ":s/o/0/\r", "0ne two three\n\tfour = (five, six)\n\nlast line\n"},
		{"substitute all", ":%s/[oe]/<&>/g\r", "<o>n<e> tw<o> thr<e><e>\n\tf<o>ur = (fiv<e>, six)\n\nlast lin<e>\n"},
		{"substitute groups", ":2s/\\(five\\), \\(six\\)/\\2, \\1/\r", "one two three\n\tfour = (six, five)\n\nlast line\n"},
		{"substitute with another separator", ":s,one,/1/,\r", "/1/ two three\n\tfour = (five, six)\n\nlast line\n"},
		{"undo of it", ":%s/o/0/g\ru", text},
		{"delete lines", ":2,3d\r", "one two three\nlast line\n"},
		{"delete from here", ":.,$d\r", ""},
		{"go to a line", ":4\rx", "one two three\n\tfour = (five, six)\n\nast line\n"},
		{"count G", "4Gx", "one two three\n\tfour = (five, six)\n\nast line\n"},
		{"typed and left", ":d\x1b", text},
		{"no visual mode", "vd", text},
		{"an operator given up", "d\x1bx", "ne two three\n\tfour = (five, six)\n\nlast line\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &editor{buffer: parse([]byte(text))}
			typeKeys(e, tt.keys)
			if diff := cmp.Diff(tt.want, string(e.bytes(0, len(e.lines)))); diff != "" {
				t.Errorf("%q (-want +got)\n%s\n%s", tt.keys, diff, e.message)
			}
		})
	}
}

// What is written back is what was read, but for what was changed.
func TestRoundTrip(t *testing.T) {
	for _, text := range []string{"", "a", "a\n", "a\r\nb\r\n", "a\r\nb\n", "\n\n", "größe\x00\xff\n", "a\nb"} {
		b := parse([]byte(text))
		if got := string(b.bytes(0, len(b.lines))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// Bytes that are no text stay what they are in a line that is changed.
func TestBytes(t *testing.T) {
	e := &editor{buffer: parse([]byte("gr\xf6\xdfe\n"))}
	typeKeys(e, "x$iX\x1b")
	if got := string(e.bytes(0, 1)); got != "r\xf6\xdfXe\n" {
		t.Errorf("%q", got)
	}
	if got := (&view{e: e}).row(e.line(), 20); got != "r<F6><DF>Xe" {
		t.Errorf("shown as %q", got)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("one\ntwo\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	e := &editor{buffer: parse(nil)}
	e.open(name, false)
	typeKeys(e, "ddihalf \x1b:q\r")
	if e.done || !e.failed {
		t.Error("it ends with changes unwritten")
	}
	typeKeys(e, ":w\r")
	after, err := os.Stat(name)
	if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
		t.Errorf("it is another file: %v, %v", after, err)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "half two\n" {
		t.Errorf("%q, %v", data, err)
	}
	typeKeys(e, ":r "+name+"\r:2w "+name+"2\r")
	if data, err := os.ReadFile(name + "2"); err != nil || string(data) != "half two\n" {
		t.Errorf("a part: %q, %v; %s", data, err, e.message)
	}
	typeKeys(e, ":w "+name+"2\r")
	if !e.failed || !strings.Contains(e.message, "exists") {
		t.Errorf("another file is overwritten: %s", e.message)
	}
	typeKeys(e, ":q!\r")
	if !e.done {
		t.Error("q! does not end")
	}
	e = &editor{buffer: parse(nil)}
	e.open(filepath.Join(dir, "new"), false)
	typeKeys(e, "ihi\x1b:wq\r")
	if data, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(data) != "hi\n" || !e.done {
		t.Errorf("a new file: %q, %v, %v", data, err, e.done)
	}
	e = &editor{buffer: parse(nil), readOnly: true}
	e.open(name, false)
	typeKeys(e, "ddixcwDp:s/h/x/\r:w\r")
	if data, _ := os.ReadFile(name); string(data) != "half two\n" || string(e.bytes(0, len(e.lines))) != "half two\n" {
		t.Errorf("view changes: %q", data)
	}
	typeKeys(e, ":w /nonexistent/x\r")
	if !e.failed {
		t.Error("a failure to write is not told")
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"-Z"}, {"a", "b"}, {t.TempDir()}, {"/dev/null"}, {}} {
		var out, stderr bytes.Buffer
		if code := Main(strings.NewReader(""), &out, &stderr, args); code == 0 || !strings.HasPrefix(stderr.String(), "vi: ") {
			t.Errorf("%q: %d, %q", args, code, stderr.String())
		}
	}
}

func TestRow(t *testing.T) {
	v := &view{e: &editor{}}
	for text, want := range map[string]string{"a\tb": "a       b", "\x1b[2J": "^[[2J", "日本語": "日本語", strings.Repeat("x", 30): strings.Repeat("x", 20)} {
		if got := v.row([]rune(text), 20); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	v.left = 3
	if got := v.row([]rune("a\tbc"), 20); got != "     bc" {
		t.Errorf("from column 3: %q", got)
	}
}

// Whatever is typed, the editor stays in its text.
func FuzzKeys(f *testing.F) {
	for _, k := range []string{"ddpu.", "iabc\x1bcw\r\x1b", ":%s/a/b/g\r", "d}c{%;,", "99JGddP", "4Sx\x1bu\x12", "/a\rnNR\x7f"} {
		f.Add("a b\n\n(c)\n", k)
	}
	f.Fuzz(func(t *testing.T, text, keys string) {
		// It must not touch files.
		if strings.ContainsAny(keys, ":") && strings.ContainsAny(keys, "wrxeq") || strings.Contains(keys, "Z") || len(keys) > 200 || len(text) > 1000 {
			return
		}
		e := &editor{buffer: parse([]byte(text))}
		typeKeys(e, keys)
		if len(e.lines) == 0 || e.at.line < 0 || e.at.line >= len(e.lines) || e.at.col < 0 || e.at.col > len(e.line()) {
			t.Errorf("at %v of %q", e.at, e.lines)
		}
		_ = (&view{e: e}).row(e.line(), 10)
	})
}
