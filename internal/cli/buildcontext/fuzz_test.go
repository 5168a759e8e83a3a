package buildcontext

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/patternmatcher"
)

// FuzzIgnore sees that each pattern is said to stand in the line that it does, and
// that what is ignored has a rule that says so.
func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.o\n!keep.o\n", "\xef\xbb\xbf# no\n  a/b  \n\n!\n", "**/x\n", "[\n", "a\r\nb\r\n", "!a\n/b/\n..\n.\n", "\\", "#\n#!x\n! y", "a/**/b\n?\n"} {
		f.Add([]byte(s), "a/b/keep.o")
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		file := filepath.Join(t.TempDir(), ".dockerignore")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		ig, err := readIgnore(file, ".dockerignore")
		if err != nil {
			return
		}
		lines := patternLines(text)
		if len(lines) != len(ig.rules) {
			t.Fatalf("%d rules in %d lines of %q", len(ig.rules), len(lines), text)
		}
		for i, r := range ig.rules {
			if r.Line != lines[i].number || r.Pattern == "" {
				t.Errorf("rule %d of %q is %v", i, text, r)
			}
		}
		if path = filepath.Clean(path); !filepath.IsLocal(path) || path == "." {
			return
		}
		ignored, _, err := ig.match(path, patternmatcher.MatchInfo{})
		if rule := ig.ruleFor(path); err == nil && ignored && rule.File == "" {
			t.Errorf("%q ignores %q by no rule", text, path)
		}
	})
}
