package shell

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/interp"
)

func TestWordAt(t *testing.T) {
	for line, want := range map[string]word{
		"":                {0, "", true, ""},
		"l":               {0, "l", true, ""},
		"ls ":             {3, "", false, "ls"},
		"ls /et":          {3, "/et", false, "ls"},
		"ls | gr":         {5, "gr", true, ""},
		"a && b; c":       {8, "c", true, ""},
		"X=1 l":           {4, "l", true, ""},
		"if l":            {3, "l", true, ""},
		"echo $(l":        {7, "l", true, ""},
		`cat my\ f`:       {4, "my f", false, "cat"},
		`cat "my f`:       {4, "my f", false, "cat"},
		`cat 'a|b`:        {4, "a|b", false, "cat"},
		"cat <fi":         {5, "fi", false, "cat"},
		"cat --file=/et":  {11, "/et", false, "cat"},
		`echo größe\ x y`: {16, "y", false, "echo"},
	} {
		if diff := cmp.Diff(want, wordAt(line), cmp.AllowUnexported(word{})); diff != "" {
			t.Errorf("%q (-want +got)\n%s", line, diff)
		}
	}
}

func TestComplete(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"alpha one", "beta-1", "beta-2", "odd\x1b[31m", ".hidden", "größe", "run"} {
		mode := os.FileMode(0o644)
		if name == "run" {
			mode = 0o755
		}
		if err := os.WriteFile(dir+"/"+name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/sub dir", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("HOME", dir)
	t.Setenv("ONLY_ONE_OF_THAT_NAME", "x")
	runner, err := interp.New(interp.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	runner.Reset()
	sh := &shell{runner: runner}
	tests := []struct {
		line, want string // the cursor stands at "_"
		list       []string
	}{
		{line: "cat al_", want: `cat alpha\ one _`},
		{line: `cat "al_`, want: `cat alpha\ one _`},
		{line: "cat be_", want: "cat beta-_"},
		{line: "cat beta-_", want: "cat beta-_", list: []string{"beta-1", "beta-2"}},
		{line: "cat ~/be_ | wc", want: "cat ~/beta-_ | wc"},
		{line: "cat od_", want: "cat $'odd\\x1b[31m'_"},
		{line: "cat .h_", want: "cat .hidden _"},
		{line: "cat gr_", want: "cat größe _"},
		{line: "cat su_", want: `cat sub\ dir/_`},
		{line: "cd _", want: `cd sub\ dir/_`},
		{line: "cat nothing_", want: ""},
		{line: "ru_", want: "run _"},
		{line: "./ru_", want: "./run _"},
		{line: "./al_", want: ""},
		{line: "umas_", want: "umask _"},
		{line: "echo $ONLY_ONE_OF_TH_", want: "echo $ONLY_ONE_OF_THAT_NAME_"},
	}
	for _, tt := range tests {
		pos := strings.LastIndex(tt.line, "_")
		line, newPos, list, ok := sh.complete(tt.line[:pos]+tt.line[pos+1:], pos)
		got := ""
		if ok {
			got = line[:newPos] + "_" + line[newPos:]
		}
		if diff := cmp.Diff([]any{tt.want, tt.list}, []any{got, list}); diff != "" {
			t.Errorf("%q (-want +got)\n%s", tt.line, diff)
		}
	}
	if _, _, list, _ := sh.complete("cat ", 4); strings.Contains(strings.Join(list, ""), "\x1b") || len(list) != 7 {
		t.Errorf("all: %q", list)
	}
}

func TestColumns(t *testing.T) {
	if got, want := columns([]string{"a", "bb", "ccc"}, 12), "a    ccc\nbb\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := columns(make([]string, listMost+5), 80); !strings.HasSuffix(got, "... and 5 more\n") {
		t.Errorf("%q", got)
	}
}

func TestSearch(t *testing.T) {
	lines := &remembered{list: []string{"ls /tmp", "echo one", "ps -ef", "echo größe"}}
	for keys, want := range map[string]struct {
		line string
		key  byte
		ok   bool
	}{
		"echo\r":           {"echo größe", '\r', true},
		"echo\x12\r":       {"echo one", '\r', true},
		"echo\x12\x12":     {},
		"ec one\x7f":       {},
		"ec\x7f\x7fls\x1b": {"ls /tmp", 27, true},
		"größ\x05":         {"echo größe", 5, true},
		"nothing\r":        {},
		"ls\x03":           {},
		"ls\x07":           {},
	} {
		var out bytes.Buffer
		s := &search{in: strings.NewReader(keys), out: &out, lines: lines, width: 40}
		line, key, ok := s.below(10, 50)
		if line != want.line || key != want.key || ok != want.ok {
			t.Errorf("%q: %q, %d, %v; want %v", keys, line, key, ok, want)
		}
		// Where it was: two rows up again, at column 10.
		if !strings.HasSuffix(out.String(), "\x1b[2A\x1b[10C") {
			t.Errorf("%q leaves the cursor by %q", keys, out.String())
		}
	}
}

func TestHistoryBuiltin(t *testing.T) {
	r := &remembered{}
	for _, l := range []string{"one", "two", "two", " hidden", "", "three"} {
		r.Add(l)
	}
	var out, stderr bytes.Buffer
	if err := r.builtin(&out, &stderr, []string{"2"}); err != nil || out.String() != "    2  two\n    3  three\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := r.builtin(&out, &stderr, []string{"-x"}); err == nil || stderr.Len() == 0 {
		t.Error("-x is an option")
	}
	if err := r.builtin(&out, &stderr, []string{"-c"}); err != nil || r.Len() != 0 {
		t.Errorf("after -c there are %d, %v", r.Len(), err)
	}
}

// What is typed is completed, found again, and shown.
func TestEditing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"unique name", "twin-a", "twin-b"} {
		if err := os.WriteFile(dir+"/"+name, []byte("content of "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x := startTerminal(t)
	x.expect("/ # ")
	x.send("cd " + dir + "\r")
	x.expect(" # ")
	x.send("cat uni\t\r")
	x.expect("content of unique name")
	x.expect(" # ")
	x.send("cat tw\t\t")
	x.expect("twin-a  twin-b")
	x.send("b\r")
	x.expect("content of twin-b")
	x.expect(" # ")
	x.send("\x12uniq")
	x.expect("(reverse-i-search)`uniq': cat unique\\ name")
	x.send("\r")
	x.expect("content of unique name")
	x.expect(" # ")
	x.send("history 2\r")
	x.expect("  cat unique\\ name")
	x.expect("  history 2\r\n")
	x.expect(" # ")
	x.send("\x1b[A\x1b[A\r")
	x.expect("content of unique name")
	x.expect(" # ")
	x.send("exit\r")
	if state, err := x.cmd.Process.Wait(); err != nil || state.ExitCode() != 0 {
		t.Errorf("exit: %v, %v", state, err)
	}
}
