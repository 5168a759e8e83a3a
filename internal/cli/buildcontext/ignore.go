package buildcontext

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Rule is one line of an ignore file.
type Rule struct {
	File    string // as ".dockerignore"
	Line    int    // from 1
	Pattern string
}

// String is the rule as compilers name places: FILE:LINE: PATTERN.
func (r *Rule) String() string { return fmt.Sprintf("%s:%d: %s", r.File, r.Line, r.Pattern) }

// Ignore is an ignore file. The zero value ignores nothing.
type Ignore struct {
	matcher *patternmatcher.PatternMatcher
	rules   []*rule
	// exceptions tells that there are rules with "!", so that something may be
	// sent out of a directory that is left out.
	exceptions bool
}

type rule struct {
	Rule
	alone     *patternmatcher.PatternMatcher
	exception bool
}

func readIgnore(path, name string) (*Ignore, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("error reading %s: %w", name, err)
	}
	ig := &Ignore{}
	if ig.matcher, err = patternmatcher.New(patterns); err != nil {
		return nil, fmt.Errorf("error reading %s: %w", name, err)
	}
	lines := patternLines(text)
	for i, p := range patterns {
		r := &rule{Rule: Rule{File: name, Pattern: p}, exception: strings.HasPrefix(p, "!")}
		if i < len(lines) {
			r.Line = lines[i].number
			r.Pattern = lines[i].text
		}
		if r.alone, err = patternmatcher.New([]string{strings.TrimPrefix(p, "!")}); err != nil {
			return nil, fmt.Errorf("error reading %s:%d: %w", name, r.Line, err)
		}
		ig.exceptions = ig.exceptions || r.exception
		ig.rules = append(ig.rules, r)
	}
	return ig, nil
}

type line struct {
	number int
	text   string
}

// patternLines finds the lines that hold patterns, by the same rules as
// [ignorefile.ReadAll].
func patternLines(text []byte) []line {
	var list []line
	s := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	for n := 1; s.Scan(); n++ {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if pattern := strings.TrimSpace(s.Text()); pattern != "" {
			list = append(list, line{n, pattern})
		}
	}
	return list
}

// match tells whether a path is ignored; parent is what match said of its
// directory.
func (ig *Ignore) match(path string, parent patternmatcher.MatchInfo) (bool, patternmatcher.MatchInfo, error) {
	if ig.matcher == nil {
		return false, parent, nil
	}
	return ig.matcher.MatchesUsingParentResults(path, parent)
}

// ruleFor finds the rule that leaves out a path: the last one that matches it or
// a directory above.
func (ig *Ignore) ruleFor(path string) *Rule {
	for i := len(ig.rules) - 1; i >= 0; i-- {
		r := ig.rules[i]
		if matched, err := r.alone.MatchesOrParentMatches(filepath.ToSlash(path)); err == nil && matched && !r.exception {
			return &r.Rule
		}
	}
	return &Rule{Pattern: path}
}
