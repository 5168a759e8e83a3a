package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/build/step"
)

// A marked script does the same and ends the same, and tells which of its
// commands was the last.
func TestMarkParts(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		script string
		parts  []string
		last   int // -1: not told
		exit   int
	}{
		{"true && false && true", []string{"true", "false", "true"}, 1, 1},
		{"echo a; sh -c 'exit 7'", []string{"echo a", "sh -c 'exit 7'"}, 1, 7},
		{"set -e; true; sh -c 'exit 4'; echo never", []string{"set -e", "true", "sh -c 'exit 4'", "echo never"}, 2, 4},
		{"echo a && \\\n  nosuchcommand && \\\n  echo c", []string{"echo a", "nosuchcommand", "echo c"}, 1, 127},
		{"false || true && echo b | cat && ! true", []string{"false || true", "echo b | cat", "! true"}, 2, 1},
		{"X=1 && test \"$X\" = 1 && cat <<E && (exit 9)\ntext\nE\n", []string{"X=1", "test \"$X\" = 1", "cat <<E", "(exit 9)"}, 3, 9},
		{"if true; then false && true; fi\nfor i in 1 2; do echo $i; done && false", []string{"if true; then false && true; fi", "for i in 1 2; do echo $i; done", "false"}, 2, 1},
		{"{ false; } && true", []string{"{ false; }", "true"}, 0, 1},
		{"f() { return 5; }; f && true", []string{"f() { return 5; }", "f", "true"}, 1, 5},
		{"exit 6", nil, -1, 6},
		{"false; echo $?; exit 2", nil, -1, 2},
		{"sleep 0 & wait; exit 3", nil, -1, 3},
		{"if", nil, -1, 2},
		{"true; [ ${?} = 0 ] && exit 2", nil, -1, 2},
	} {
		marked, parts := markParts(c.script)
		if diff := cmp.Diff(c.parts, parts); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.script, diff)
		}
		at := filepath.Join(dir, "at")
		_ = os.Remove(at)
		run := func(script string) (string, int) {
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(script, markDir, dir))
			out, _ := cmd.Output() // the code is in ProcessState
			return string(out), cmd.ProcessState.ExitCode()
		}
		wantOut, wantExit := run(c.script)
		out, exit := run(marked)
		if out != wantOut || exit != wantExit || exit != c.exit {
			t.Errorf("%q: %q and %d, marked %q and %d, want %d", c.script, wantOut, wantExit, out, exit, c.exit)
		}
		last := -1
		if text, err := os.ReadFile(at); err == nil {
			last, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if last != c.last {
			t.Errorf("%q: ended in command %d, want %d; marked:\n%s", c.script, last, c.last, marked)
		}
	}
}

// What only bash knows stays whole, whatever the shell is called.
func TestMarkPartsOfBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	for script, parts := range map[string][]string{
		"[[ -n x && -z '' ]] && echo yes":                  {"[[ -n x && -z '' ]]", "echo yes"},
		"[[ a == b || ( -n x && -n y ) ]]; echo $((1&&0))": {"[[ a == b || ( -n x && -n y ) ]]", "echo $((1&&0))"},
		"a=(1 2); echo ${#a[@]} <(true; true)":             {"a=(1 2)", "echo ${#a[@]} <(true; true)"},
		"false | true; echo ${PIPESTATUS[0]}":              nil,
		"echo a; echo $_":                                  nil,
	} {
		marked, got := markParts(script)
		if diff := cmp.Diff(parts, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", script, diff)
		}
		run := func(script string) string {
			out, err := exec.CommandContext(t.Context(), bash, "-c", strings.ReplaceAll(script, markDir, t.TempDir())).CombinedOutput()
			return fmt.Sprintf("%s%v", out, err)
		}
		if want, got := run(script), run(marked); got != want && !strings.Contains(script, "<(") { // which has the number of a file
			t.Errorf("%q: %q, marked %q", script, want, got)
		}
	}
}

// A script whose marks cannot be written does the same.
func TestMarkPartsWithoutPlace(t *testing.T) {
	marked, _ := markParts("echo a && echo b")
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(marked, markDir, "/nonexistent")).CombinedOutput()
	if err != nil || string(out) != "a\nb\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func FuzzMarkParts(f *testing.F) {
	for _, s := range []string{"a && b", "a;b", "a || b && c | d", "cat <<E\nx\nE", "f() { a; }; f", "case x in x) y;; esac && z", "a # b\nc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		marked, parts := markParts(script)
		if len(parts) == 0 && marked != script {
			t.Errorf("%q was changed without parts", script)
		}
		if again, _ := markParts(marked); len(parts) > 0 && again == marked {
			t.Errorf("%q: marked, it cannot be read any more: %q", script, marked)
		}
	})
}

func TestHowEnded(t *testing.T) {
	for _, c := range []struct {
		exit step.Exit
		want string
	}{
		{step.Exit{Code: 3}, "exit code 3"},
		{step.Exit{Code: 127}, "not found"},
		{step.Exit{Code: 126}, "could not be executed"},
		{step.Exit{Code: 139}, "segmentation fault"},
		{step.Exit{Code: 137, Signal: 9}, "killed by signal 9"},
		{step.Exit{Code: 137, Signal: 9, OOMKilled: true}, "memory"},
	} {
		if got := howEnded(c.exit); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.exit, got, c.want)
		}
	}
}
