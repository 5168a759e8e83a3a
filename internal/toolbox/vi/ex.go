package vi

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/toolbox/bre"
	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// commandKey takes a key of a line that is typed at the bottom.
func (e *editor) commandKey(k screen.Key) {
	switch {
	case k == screen.Escape, k == screen.Ctrl('c'), k == screen.Backspace && e.typed == "":
		e.mode = normal
	case k == screen.Backspace:
		r := []rune(e.typed)
		e.typed = string(r[:len(r)-1])
	case k == screen.Ctrl('u'):
		e.typed = ""
	case k == screen.Enter || k == '\n':
		e.mode = normal
		if e.prompt == ':' {
			e.ex(e.typed)
		} else {
			e.lookFor(e.typed, e.prompt == '?')
		}
	case k == '\t' || k >= ' ' && k < screen.Up:
		e.typed += string(rune(k))
	}
}

// lookFor searches for a pattern, or for the last one again.
func (e *editor) lookFor(text string, backward bool) {
	e.backward = backward
	if text != "" {
		re, err := compile(text)
		if err != nil {
			e.error(err.Error())
			return
		}
		e.pattern = re
	}
	if to, ok := e.search(e.at, backward); ok {
		e.at, e.want = to, to.col
	}
}

// compile reads a basic regular expression.
func compile(text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(bre.Extended(text))
	if err != nil {
		return nil, fmt.Errorf("bad pattern %s", text)
	}
	return re, nil
}

// ex does a command of the line at the bottom: [RANGE]NAME[!] [ARGUMENT].
func (e *editor) ex(text string) {
	text = strings.TrimLeft(text, " \t:")
	from, to, rest, err := e.lineRange(text)
	if err != nil {
		e.error(err.Error())
		return
	}
	given := len(rest) < len(text)
	rest = strings.TrimLeft(rest, " ")
	name := rest
	for i, r := range rest {
		if r < 'a' || r > 'z' {
			name = rest[:i]
			break
		}
	}
	if strings.HasPrefix(rest, "s") && len(rest) > 1 && !strings.HasPrefix(rest, "se") {
		name = "s"
	}
	arg := rest[len(name):]
	arg, force := strings.CutPrefix(arg, "!")
	arg = strings.TrimSpace(arg)
	switch name {
	case "":
		if given {
			e.at = position{to, indentOf([]rune(e.lines[to]))}
		}
	case "q", "quit":
		e.quit(force)
	case "w", "write", "wq", "x", "xit":
		e.exWrite(name, arg, from, to, given, force)
	case "e", "edit":
		e.open(arg, force)
	case "r", "read":
		e.exRead(arg, to, given)
	case "d", "delete":
		if e.denied() {
			return
		}
		e.begin()
		e.apply('d', position{from, 0}, position{to, 0}, true)
		e.clamp()
		e.end()
	case "s":
		if !e.denied() {
			e.substitute(rest[1:], from, to)
		}
	case "u", "undo":
		e.swap(&e.undo, &e.redo, "oldest")
	case "set", "se":
		switch arg {
		case "nu", "number":
			e.numbers = true
		case "nonu", "nonumber":
			e.numbers = false
		default:
			e.error("There is no option " + arg + ": number, nonumber")
		}
	case "f", "file":
		e.tell(e.where())
	default:
		e.error("There is no command :" + rest)
	}
}

// lineRange reads the lines that a command is for, counted from 0: "N", "N,M", ".",
// "$", "%", with "+N" and "-N". Without any it is the line of the cursor.
func (e *editor) lineRange(text string) (from, to int, rest string, err error) {
	if rest, all := strings.CutPrefix(text, "%"); all {
		return 0, len(e.lines) - 1, rest, nil
	}
	from, rest, err = e.address(text)
	to = from
	if err == nil && strings.HasPrefix(rest, ",") {
		to, rest, err = e.address(rest[1:])
	}
	switch {
	case err != nil:
	case from > to:
		err = fmt.Errorf("the first line of the range is behind the last")
	case from < 0 || to >= len(e.lines):
		err = fmt.Errorf("there is no such line, there are %d", len(e.lines))
	}
	return from, to, rest, err
}

func (e *editor) address(text string) (line int, rest string, err error) {
	line, rest = e.at.line, text
	digits := func() (int, bool) {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		v, convErr := strconv.Atoi(rest[:n])
		if n > 0 && convErr != nil {
			err = fmt.Errorf("there is no line %s", rest[:n])
		}
		rest = rest[n:]
		return v, n > 0
	}
	switch {
	case strings.HasPrefix(rest, "."):
		rest = rest[1:]
	case strings.HasPrefix(rest, "$"):
		line, rest = len(e.lines)-1, rest[1:]
	default:
		if v, ok := digits(); ok {
			line = max(0, v-1)
		}
	}
	for strings.HasPrefix(rest, "+") || strings.HasPrefix(rest, "-") {
		sign := 1
		if rest[0] == '-' {
			sign = -1
		}
		rest = rest[1:]
		v, ok := digits()
		if !ok {
			v = 1
		}
		line += sign * v
	}
	return line, rest, err
}

func (e *editor) quit(force bool) {
	if e.dirty && !force {
		e.error("No write since last change (add ! to override)")
		return
	}
	e.done = true
}

func (e *editor) exWrite(name, arg string, from, to int, given, force bool) {
	target := arg
	if target == "" {
		target = e.name
	}
	if !given {
		from, to = 0, len(e.lines)-1
	}
	own := target == e.name && !given
	switch {
	case target == "":
		e.error("No file name")
		return
	case name[0] == 'x' && !e.dirty && arg == "":
		e.done = true
		return
	case e.readOnly && own && !force:
		e.error("It was opened to be looked at only (add ! to override)")
		return
	case arg != "" && arg != e.name && !force && exists(arg):
		e.error("File exists (add ! to override)")
		return
	}
	data := e.bytes(from, to+1)
	if err := write(target, data); err != nil {
		e.error(screen.Visible(err.Error()))
		return
	}
	if e.name == "" {
		e.name = target
	}
	if own || e.name == target && !given {
		e.dirty, e.isNew = false, false
	}
	e.tell(fmt.Sprintf("%q %dL, %dB written", target, to+1-from, len(data)))
	if name != "w" && name != "write" {
		e.quit(force)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// open begins with a file; empty: the one that there is, again.
func (e *editor) open(name string, force bool) {
	if e.dirty && !force {
		e.error("No write since last change (add ! to override)")
		return
	}
	if name == "" {
		name = e.name
	}
	if name == "" {
		e.error("No file name")
		return
	}
	b, isNew, err := read(name)
	if err != nil {
		e.error(screen.Visible(err.Error()))
		return
	}
	e.buffer, e.name, e.isNew, e.dirty = b, name, isNew, false
	e.undo, e.redo, e.at, e.want = nil, nil, position{}, 0
	e.tell(e.where())
}

func (e *editor) where() string {
	what := fmt.Sprintf("%q", e.name)
	if e.name == "" {
		what = "[No file]"
	}
	switch {
	case e.isNew:
		return what + " [New File]"
	case e.dirty:
		what += " [Modified]"
	}
	if e.readOnly {
		what += " [readonly]"
	}
	if e.crlf {
		what += " [dos]"
	}
	if e.noEnd {
		what += " [noeol]"
	}
	return fmt.Sprintf("%s line %d of %d", what, e.at.line+1, len(e.lines))
}

func (e *editor) exRead(arg string, to int, given bool) {
	if e.denied() {
		return
	}
	if arg == "" {
		e.error("No file name")
		return
	}
	b, isNew, err := read(arg)
	if err == nil && isNew {
		err = fmt.Errorf("%s: no such file or directory", arg)
	}
	if err != nil {
		e.error(screen.Visible(err.Error()))
		return
	}
	e.begin()
	if !given {
		to = e.at.line
	}
	e.insertLines(to+1, b.lines)
	e.at = position{to + 1, 0}
	e.clamp()
	e.end()
}

// substitute does "/PATTERN/REPLACEMENT/[gi]" in lines. In the replacement, & is
// what matched, \1 to \9 are groups.
func (e *editor) substitute(text string, from, to int) {
	if text == "" || strings.IndexByte(" \t\"|\\", text[0]) >= 0 || text[0] >= 'a' && text[0] <= 'z' {
		e.error("It is :s/PATTERN/REPLACEMENT/")
		return
	}
	parts := splitUnescaped(text[1:], text[0])
	for len(parts) < 3 {
		parts = append(parts, "")
	}
	pattern, flags := parts[0], parts[2]
	if strings.Trim(flags, "gi") != "" || len(parts) > 3 {
		e.error("There are no such flags: g and i")
		return
	}
	re := e.pattern
	if pattern != "" {
		var err error
		if re, err = compile(pattern); err != nil {
			e.error(err.Error())
			return
		}
	}
	if re == nil {
		e.error("No previous regular expression")
		return
	}
	if strings.Contains(flags, "i") {
		re = regexp.MustCompile("(?i)" + re.String())
	}
	e.pattern = re
	e.begin()
	count, last := 0, -1
	var out []string
	for i := from; i <= to; i++ {
		line, n := replaceIn(re, e.lines[i], parts[1], strings.Contains(flags, "g"))
		list := strings.Split(line, "\n")
		if n > 0 {
			count, last = count+n, from+len(out)+len(list)-1
		}
		out = append(out, list...)
	}
	if count == 0 {
		e.error("Pattern not found")
		return
	}
	e.lines = append(append(append([]string(nil), e.lines[:from]...), out...), e.lines[to+1:]...)
	e.at = position{last, 0}
	e.clamp()
	e.end()
	e.tell(fmt.Sprintf("%d substitutions", count))
}

// escapes are what is not itself behind a backslash in a replacement.
var escapes = map[byte]byte{'n': '\n', 'r': '\n', 't': '\t'}

func replaceIn(re *regexp.Regexp, line, with string, all bool) (string, int) {
	var b strings.Builder
	n, at := 0, 0
	for _, m := range re.FindAllStringSubmatchIndex(line, -1) {
		if n > 0 && !all {
			break
		}
		n++
		b.WriteString(line[at:m[0]])
		at = m[1]
		bre.Expand(&b, with, line, m, escapes)
	}
	return b.String() + line[at:], n
}

// splitUnescaped splits at a character that has no backslash before it. One that
// has is itself.
func splitUnescaped(text string, sep byte) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == sep:
			i++
			b.WriteByte(sep)
		case text[i] == '\\' && i+1 < len(text):
			b.WriteString(text[i : i+2])
			i++
		case text[i] == sep:
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(text[i])
		}
	}
	return append(parts, b.String())
}
