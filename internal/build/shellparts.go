package build

import (
	"fmt"
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// markDir is a directory of the debugger's in a step. A marked script notes in
// its file "at" which of its parts it has come to.
const markDir = "/dev/.porthole"

// markParts makes a shell script tell where it is: in front of each command of
// its lists, separated by newlines, ";" or "&&", the number of that command is
// written into a file, which says after a failure which one it was. What the
// commands do and how the script ends stays the same. parts are their texts.
//
// A script that cannot be read, or that depends on the status of the command
// before ($?), is left as it is, without parts.
func markParts(script string) (marked string, parts []string) {
	// A "sh" may be bash, and ash knows some of it: a "&&" within [[ ]] is no list.
	f, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil || usesStatus.MatchString(script) {
		return script, nil
	}
	var list []*syntax.Stmt
	for _, stmt := range f.Stmts {
		if stmt.Background || stmt.Coprocess {
			return script, nil
		}
		list = append(list, commandsOf(stmt)...)
	}
	if len(list) < 2 {
		return script, nil
	}
	var out strings.Builder
	last := uint(0)
	for i, stmt := range list {
		start := stmt.Pos().Offset()
		out.WriteString(script[last:start])
		_, _ = fmt.Fprintf(&out, "{ echo %d >%s/at || :; } 2>/dev/null && ", i, markDir)
		end := stmt.End().Offset() // behind the text of a here-document, which comes after the next commands
		if i+1 < len(list) {
			end = min(end, list[i+1].Pos().Offset())
		}
		parts = append(parts, strings.TrimRight(script[start:end], "&; \\\n"))
		last = start
	}
	out.WriteString(script[last:])
	return out.String(), parts
}

// usesStatus finds what tells of the command before.
var usesStatus = regexp.MustCompile(`\$\{?[?_]|PIPESTATUS`)

// commandsOf are the commands of a list of "&&", or of anything else as a whole.
// A "||" belongs to the command before: a mark in it would change what the list
// means.
func commandsOf(s *syntax.Stmt) []*syntax.Stmt {
	list, ok := s.Cmd.(*syntax.BinaryCmd)
	if !ok || list.Op != syntax.AndStmt || s.Negated || len(s.Redirs) > 0 {
		return []*syntax.Stmt{s}
	}
	return append(commandsOf(list.X), list.Y)
}
