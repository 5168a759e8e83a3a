package shell

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// word is the beginning of a word that is to be completed.
type word struct {
	start   int    // where it begins in the line
	text    string // as the shell would read it
	command bool   // it is where a command's name stands
	before  string // the command that it is an argument of, if so
}

// wordAt reads the line up to the cursor.
func wordAt(line string) word {
	w := word{command: true}
	var quote rune
	var first string // of the command
	escaped, inWord := false, false
	var text strings.Builder
	finish := func() {
		if inWord && w.command {
			// X=1 in front of a command is no command.
			if !strings.Contains(text.String(), "=") && !slices.Contains(keywords, text.String()) {
				w.command, first = false, text.String()
			}
		}
		inWord = false
		text.Reset()
	}
	for i, r := range line {
		special := quote == 0 && !escaped
		switch {
		case escaped:
			escaped = false
			text.WriteRune(r)
		case r == '\\' && quote != '\'':
			if !inWord {
				w.start, inWord = i, true
			}
			escaped = true
		case special && (r == '\'' || r == '"'):
			if !inWord {
				w.start, inWord = i, true
			}
			quote = r
		case quote != 0 && r == quote:
			quote = 0
		case special && unicode.IsSpace(r):
			finish()
		case special && strings.ContainsRune("|&;(){}`\n", r):
			finish()
			w.command, first = true, ""
		case special && strings.ContainsRune("<>", r):
			finish()
		case special && r == '=' && inWord && !w.command:
			// --file=NAME
			text.Reset()
			w.start, inWord = i+1, true
		default:
			if !inWord {
				w.start, inWord = i, true
			}
			text.WriteRune(r)
		}
	}
	if !inWord {
		w.start = len(line)
	}
	w.text, w.before = text.String(), first
	return w
}

// keywords are followed by a command.
var keywords = []string{"if", "then", "else", "elif", "do", "while", "until", "!", "time", "exec", "command", "nohup", "xargs", "{"}

// candidate is what a word may become: as the shell reads it.
type candidate struct {
	name  string
	whole bool // a blank may follow
}

// complete completes what stands before the cursor as far as it is unambiguous, and
// lists what there is if that is not further.
func (sh *shell) complete(line string, pos int) (newLine string, newPos int, list []string, ok bool) {
	w := wordAt(line[:pos])
	found := sh.candidates(w, line[w.start:pos])
	if len(found) == 0 {
		return "", 0, nil, false
	}
	common := found[0].name
	for _, f := range found[1:] {
		for !strings.HasPrefix(f.name, common) {
			_, n := utf8.DecodeLastRuneInString(common)
			common = common[:len(common)-n]
		}
	}
	if len(found) > 1 && len(common) <= len(w.text) {
		for _, f := range found {
			list = append(list, screen.Visible(shownName(f.name)))
		}
		return line, pos, list, true
	}
	text := escape(common)
	if len(found) == 1 && found[0].whole {
		text += " "
	}
	if strings.ContainsFunc(common, func(r rune) bool { return !unicode.IsPrint(r) }) {
		if len(found) > 1 {
			return line, pos, nil, true // a part of such a name cannot be quoted alone
		}
		quoted, err := syntax.Quote(common, syntax.LangBash)
		if err != nil {
			return line, pos, nil, true
		}
		text = quoted
	}
	return line[:w.start] + text + line[pos:], w.start + len(text), nil, true
}

// shownName is the last part of a path, as a list shows it.
func shownName(name string) string {
	dir, base := filepath.Split(strings.TrimSuffix(name, "/"))
	if dir == "" || base == "" {
		return name
	}
	return name[len(dir):]
}

// candidates are what may stand in place of a word, sorted. typed is the word as
// it was typed.
func (sh *shell) candidates(w word, typed string) []candidate {
	var found []candidate
	switch {
	case strings.HasPrefix(typed, "$") && !strings.ContainsAny(typed, "/{("):
		for name, v := range sh.variables() {
			if v.IsSet() && strings.HasPrefix("$"+name, w.text) && name != nameVariable {
				found = append(found, candidate{"$" + name, false})
			}
		}
	case w.command && !strings.Contains(w.text, "/"):
		found = sh.commandsWith(w.text)
	default:
		found = filesWith(sh.runner.Dir, os.Getenv("HOME"), w.text)
		if w.before == "cd" || w.before == "rmdir" {
			found = slices.DeleteFunc(found, func(c candidate) bool { return c.whole })
		}
		if w.command {
			found = slices.DeleteFunc(found, func(c candidate) bool { return c.whole && !executable(sh.runner.Dir, c.name) })
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	return slices.Compact(found)
}

func (sh *shell) variables() func(func(string, expand.Variable) bool) {
	return func(yield func(string, expand.Variable) bool) {
		seen := map[string]bool{}
		for name, v := range sh.runner.Vars {
			if seen[name] = true; !yield(name, v) {
				return
			}
		}
		if sh.runner.Env == nil {
			return
		}
		for name, v := range sh.runner.Env.Each {
			if !seen[name] && !yield(name, v) {
				return
			}
		}
	}
}

// escape has the shell read a text as it is.
func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '~' && i == 0, r == '$' && i == 0:
		case strings.ContainsRune(" \t'\"\\$&;|<>()*?[]#~!{}`", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// builtins are those of the interpreter that people use at a prompt.
var builtins = []string{
	"alias", "bg", "cd", "command", "echo", "eval", "exec", "exit", "export", "false", "fg", "history", "printf", "pwd", "read", "readonly", "return",
	"set", "shift", "source", "test", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait",
}

// commandsWith are programs on the path, builtins and functions.
func (sh *shell) commandsWith(prefix string) []candidate {
	var found []candidate
	add := func(name string) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, candidate{name, true})
		}
	}
	for _, b := range builtins {
		add(b)
	}
	for name := range sh.runner.Funcs {
		add(name)
	}
	search := os.Getenv("PATH")
	if v, ok := sh.runner.Vars["PATH"]; ok {
		search = v.String()
	}
	for _, dir := range filepath.SplitList(search) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) && executable(dir, e.Name()) {
				add(e.Name())
			}
		}
	}
	return found
}

func executable(dir, name string) bool {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func filesWith(cwd, home, text string) []candidate {
	dir, base := filepath.Split(text)
	look := dir
	if rest, ok := strings.CutPrefix(dir, "~/"); ok && home != "" {
		look = home + "/" + rest
	}
	if !filepath.IsAbs(look) {
		look = filepath.Join(cwd, look)
	}
	entries, err := os.ReadDir(look)
	if err != nil {
		return nil
	}
	var found []candidate
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		c := candidate{dir + e.Name(), true}
		if info, err := os.Stat(filepath.Join(look, e.Name())); err == nil && info.IsDir() {
			c = candidate{c.name + "/", false}
		}
		found = append(found, c)
	}
	return found
}

// listMost is how many names are listed.
const listMost = 200

// columns lays names out for a terminal.
func columns(list []string, width int) string {
	more := len(list) - listMost
	list = list[:min(len(list), listMost)]
	widest := 0
	for _, n := range list {
		widest = max(widest, screen.Width(n)+2)
	}
	per := max(1, width/max(1, widest))
	rows := (len(list) + per - 1) / per
	var b strings.Builder
	for r := range rows {
		for i := r; i < len(list); i += rows {
			b.WriteString(list[i])
			if i+rows < len(list) {
				b.WriteString(strings.Repeat(" ", widest-screen.Width(list[i])))
			}
		}
		b.WriteByte('\n')
	}
	if more > 0 {
		fmt.Fprintf(&b, "... and %d more\n", more)
	}
	return b.String()
}
