package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	mostNear = 3
	// mostSearched is among how many files near names are looked for.
	mostSearched = 10000
)

var errEnough = errors.New("enough files")

// Missing tells why a build has not found a path of the context, which is "/":
// the rule that leaves it out, or that there is no such file and what is called
// alike. Empty: it is there and sent, so that is not the reason.
func (c *Context) Missing(ctx context.Context, name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if _, err := os.Lstat(filepath.Join(c.dir, filepath.FromSlash(name))); err == nil {
		if c.ignore.matcher == nil || c.always[name] {
			return ""
		}
		if out, err := c.ignore.matcher.MatchesOrParentMatches(name); err != nil || !out {
			return ""
		}
		r := c.ignore.ruleFor(name)
		return fmt.Sprintf("%s is in the context's directory, but %s:%d leaves it out: %s", name, r.File, r.Line, r.Pattern)
	}
	var near []string
	searched := 0
	_ = c.Walk(ctx, func(e Entry) error { // what cannot be read is not near
		if searched++; searched > mostSearched || len(near) == mostNear {
			return errEnough
		}
		if alike(e.Path, name) {
			text := e.Path
			if e.Rule != nil {
				text += fmt.Sprintf(" (left out by %s:%d)", e.Rule.File, e.Rule.Line)
			}
			near = append(near, text)
		}
		return nil
	})
	text := fmt.Sprintf("there is no %s in %s", name, c.dir)
	if len(near) > 0 {
		text += "; near it: " + strings.Join(near, ", ")
	}
	return text
}

// alike tells names that may be meant: the same elsewhere, or up to two letters
// away in the same directory.
func alike(have, want string) bool {
	a, b := strings.ToLower(path.Base(have)), strings.ToLower(path.Base(want))
	return a == b || path.Dir(have) == path.Dir(want) && len(b) > 2 && distance(a, b) <= 2
}

// distance is how many letters have to be put in, taken out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
