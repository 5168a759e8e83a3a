package vi

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// normalKey collects keys until they are a command: a count, perhaps an operator
// with another count, and a command or motion, perhaps with a character.
func (e *editor) normalKey(k screen.Key) {
	if k == screen.Escape || k == screen.Ctrl('c') {
		e.pending = nil
		return
	}
	e.pending = append(e.pending, k)
	count, rest := takeCount(e.pending)
	if len(rest) == 0 {
		return
	}
	if e.whole(rest) {
		keys := e.pending
		e.pending = nil
		e.run(keys, count, rest)
	}
}

// countMost bounds counts, and pasteMost what is put in by one command.
const (
	countMost = 99_999
	pasteMost = 16 << 20
)

// takeCount takes a number from the beginning of a command; 0: there is none.
func takeCount(keys []screen.Key) (count int, rest []screen.Key) {
	for len(keys) > 0 && (keys[0] >= '1' && keys[0] <= '9' || keys[0] == '0' && count > 0) {
		count = min(count*10+int(keys[0]-'0'), countMost)
		keys = keys[1:]
	}
	return count, keys
}

// whole tells whether nothing has to follow a command's keys.
func (e *editor) whole(rest []screen.Key) bool {
	switch rest[0] {
	case 'd', 'c', 'y', '<', '>':
		_, motion := takeCount(rest[1:])
		return len(motion) > 0 && (motion[0] == rest[0] || e.whole(motion))
	case 'f', 'F', 't', 'T', 'r', 'Z', 'g', 'z', 'm', '\'', '`', '"', 'q', '@':
		return len(rest) > 1
	default:
		return true
	}
}

// run does a command.
func (e *editor) run(keys []screen.Key, count int, rest []screen.Key) {
	n := max(1, count)
	k := rest[0]
	switch {
	case strings.ContainsRune("dcy<>", rune(k)):
		e.operate(keys, n, rest)
	case strings.ContainsRune("iIaAoOsSCR", rune(k)):
		e.startInsert(keys, k, n)
	case strings.ContainsRune("xXDpPJ~r", rune(k)) || k == screen.Delete:
		e.begin()
		e.edit(rest, n)
		e.clamp()
		e.end()
		e.remember(keys)
	default:
		if to, _, ok := e.motion(rest, count, false); ok {
			e.at = to
			e.clamp()
			return
		}
		if e.message == "" {
			e.other(rest, n)
		}
	}
}

// remember has a change be repeated by ".".
func (e *editor) remember(keys []screen.Key) {
	if !e.playing {
		e.last = append([]screen.Key(nil), keys...)
	}
}

// other are the commands that change no text by themselves.
func (e *editor) other(rest []screen.Key, n int) {
	switch k := rest[0]; k {
	case 'u':
		for range n {
			e.swap(&e.undo, &e.redo, "oldest")
		}
	case screen.Ctrl('r'):
		for range n {
			e.swap(&e.redo, &e.undo, "newest")
		}
	case 'Y':
		e.yankLines(e.at.line, min(len(e.lines), e.at.line+n))
	case '.':
		keys := e.last
		e.playing = true
		for _, k := range keys {
			e.key(k)
		}
		e.playing = false
	case ':', '/', '?':
		e.mode, e.prompt, e.typed = command, byte(k), ""
	case 'Z':
		switch rest[1] {
		case 'Z':
			e.ex("x")
		case 'Q':
			e.ex("q!")
		default:
			e.error("There is no such command: ZZ, ZQ")
		}
	case screen.Ctrl('g'):
		e.tell(e.where())
	case screen.Ctrl('l'), 'z':
	case 'v', 'V', screen.Ctrl('v'):
		e.error("There is no visual mode: use operators with motions, or :N,Nd")
	case 'm', '\'', '`', '"', 'q', '@':
		e.error("There are no marks, named registers and macros")
	default:
		if k < screen.Up {
			e.error(fmt.Sprintf("There is no command %s", screen.Visible(string(rune(k)))))
		}
	}
}

// startInsert begins to put text in.
func (e *editor) startInsert(keys []screen.Key, k screen.Key, n int) {
	if e.denied() {
		return
	}
	e.begin()
	r := e.line()
	e.mode, e.inserted, e.times = insert, nil, 1
	if strings.ContainsRune("iIaA", rune(k)) {
		e.times = n
	}
	switch k {
	case 'I':
		e.at.col = indentOf(r)
	case 'a':
		e.at.col = min(e.at.col+1, len(r))
	case 'A':
		e.at.col = len(r)
	case 'o':
		e.insertLines(e.at.line+1, []string{""})
		e.at = position{e.at.line + 1, 0}
	case 'O':
		e.insertLines(e.at.line, []string{""})
		e.at.col = 0
	case 's':
		e.yank(e.at, position{e.at.line, min(len(r), e.at.col+n)})
		e.remove(e.at, position{e.at.line, min(len(r), e.at.col+n)})
	case 'S':
		e.changeLines(e.at.line, min(len(e.lines), e.at.line+n))
	case 'C':
		e.yank(e.at, position{e.at.line, len(r)})
		e.remove(e.at, position{e.at.line, len(r)})
	case 'R':
		e.mode = replace
	default: // i begins where the cursor is
	}
	if !e.playing {
		e.record = append([]screen.Key(nil), keys...)
	}
}

// denied says that nothing can be changed.
func (e *editor) denied() bool {
	if e.readOnly {
		e.error("It was opened to be looked at only: use vi, not view")
	}
	return e.readOnly
}

// edit are the commands that change text at once.
func (e *editor) edit(rest []screen.Key, n int) {
	if e.denied() {
		return
	}
	r := e.line()
	end := position{e.at.line, min(len(r), e.at.col+n)}
	switch rest[0] {
	case 'x', screen.Delete:
		e.yank(e.at, end)
		e.remove(e.at, end)
	case 'X':
		from := position{e.at.line, max(0, e.at.col-n)}
		e.yank(from, e.at)
		e.remove(from, e.at)
	case 'D':
		e.yank(e.at, position{e.at.line, len(r)})
		e.remove(e.at, position{e.at.line, len(r)})
	case 'p', 'P':
		e.paste(rest[0] == 'P', n)
	case 'J':
		for range max(1, n-1) {
			e.join()
		}
	case '~':
		for i := e.at.col; i < end.col; i++ {
			if unicode.IsUpper(r[i]) {
				r[i] = unicode.ToLower(r[i])
			} else {
				r[i] = unicode.ToUpper(r[i])
			}
		}
		e.setLine(r)
		e.at.col = end.col
	case 'r':
		c := rest[1]
		switch {
		case end.col-e.at.col < n || c >= screen.Up || c < ' ' && c != '\t' && c != screen.Enter:
		case c == screen.Enter:
			e.lines[e.at.line] = string(r[:e.at.col])
			e.insertLines(e.at.line+1, []string{string(r[end.col:])})
			e.at = position{e.at.line + 1, 0}
		default:
			for i := e.at.col; i < end.col; i++ {
				r[i] = rune(c)
			}
			e.setLine(r)
			e.at.col = end.col - 1
		}
	default: // there are no others
	}
}

func (e *editor) join() {
	if e.at.line+1 >= len(e.lines) {
		return
	}
	above, below := strings.TrimRight(e.lines[e.at.line], " \t"), strings.TrimLeft(e.lines[e.at.line+1], " \t")
	e.at.col = len([]rune(above))
	if above != "" && below != "" && !strings.HasPrefix(below, ")") {
		above += " "
	}
	e.lines[e.at.line] = above + below
	e.deleteLines(e.at.line+1, e.at.line+2)
}

func (e *editor) yank(from, to position) { e.register, e.byLine = e.text(from, to), false }

func (e *editor) yankLines(from, to int) {
	e.register, e.byLine = strings.Join(e.lines[from:to], "\n"), true
	if to-from > 2 {
		e.tell(fmt.Sprintf("%d lines yanked", to-from))
	}
}

// changeLines leaves one empty line in place of some.
func (e *editor) changeLines(from, to int) {
	e.yankLines(from, to)
	e.deleteLines(from, to)
	if to-from <= len(e.lines) && !(len(e.lines) == 1 && e.lines[0] == "") || from > 0 {
		e.insertLines(min(from, len(e.lines)), []string{""})
	}
	e.at = position{min(from, len(e.lines)-1), 0}
}

func (e *editor) paste(before bool, n int) {
	if (len(e.register)+1)*n > pasteMost {
		e.error("That is too much to put in at once")
		return
	}
	if e.byLine {
		at := e.at.line + 1
		if before {
			at--
		}
		e.insertLines(at, strings.Split(strings.Repeat(e.register+"\n", n-1)+e.register, "\n"))
		e.at = position{at, indentOf([]rune(e.lines[at]))}
		return
	}
	if e.register == "" {
		return
	}
	r := e.line()
	col := min(len(r), e.at.col+1)
	if before || len(r) == 0 {
		col = min(len(r), e.at.col)
	}
	text := strings.Repeat(e.register, n)
	list := strings.Split(string(r[:col])+text+string(r[col:]), "\n")
	line := e.at.line
	e.deleteLines(line, line+1)
	if len(e.lines) == 1 && e.lines[0] == "" && line == 0 {
		e.lines = nil
	}
	e.insertLines(line, list)
	if len(list) == 1 {
		e.at = position{line, col + len([]rune(text)) - 1}
	} else {
		e.at = position{line, col}
	}
}

// operate does an operator on what a motion is over, or on lines if it is
// doubled.
func (e *editor) operate(keys []screen.Key, n int, rest []screen.Key) {
	op := rest[0]
	if op != 'y' && e.denied() {
		return
	}
	count, motion := takeCount(rest[1:])
	given := count > 0 || n > 1
	total := n * max(1, count)
	from, to, byLine := e.at, e.at, true
	if motion[0] == op {
		to.line = min(len(e.lines)-1, e.at.line+total-1)
	} else {
		arg := 0
		if given {
			arg = total
		}
		// "cw" leaves the blanks behind a word: POSIX says so.
		r := e.line()
		if op == 'c' && (motion[0] == 'w' || motion[0] == 'W') && e.at.col < len(r) && !unicode.IsSpace(r[e.at.col]) {
			motion = []screen.Key{map[screen.Key]screen.Key{'w': 'e', 'W': 'E'}[motion[0]]}
		}
		target, kind, ok := e.motion(motion, arg, true)
		if !ok {
			if e.message == "" {
				e.error("That is no motion")
			}
			return
		}
		to, byLine = target, kind == lineWise
		if to.before(from) {
			from, to = to, from
		}
		if kind == inclusive {
			to.col++
		}
		if !byLine && from == to {
			return
		}
		// A motion over the end of a line, by words, does not take the line's end.
		if (motion[0] == 'w' || motion[0] == 'W') && to.line > from.line && strings.TrimSpace(string([]rune(e.lines[to.line])[:to.col])) == "" {
			to = position{to.line - 1, len([]rune(e.lines[to.line-1]))}
			if to.before(from) {
				to = position{from.line, len([]rune(e.lines[from.line]))}
			}
		}
	}
	e.begin()
	e.apply(op, from, to, byLine || op == '<' || op == '>')
	if op == 'c' {
		e.mode, e.inserted, e.times = insert, nil, 1
		if !e.playing {
			e.record = append([]screen.Key(nil), keys...)
		}
		return
	}
	e.clamp()
	e.end()
	if op != 'y' {
		e.remember(keys)
	}
}

func (e *editor) apply(op screen.Key, from, to position, byLine bool) {
	switch {
	case op == '<' || op == '>':
		for i := from.line; i <= to.line; i++ {
			if op == '>' && e.lines[i] != "" {
				e.lines[i] = "\t" + e.lines[i]
			} else if op == '<' {
				e.lines[i] = outdent(e.lines[i])
			}
		}
		e.at = position{from.line, indentOf([]rune(e.lines[from.line]))}
	case byLine && op == 'y':
		e.yankLines(from.line, to.line+1)
		e.at.line = from.line
	case byLine && op == 'c':
		e.changeLines(from.line, to.line+1)
	case byLine:
		e.yankLines(from.line, to.line+1)
		e.deleteLines(from.line, to.line+1)
		line := min(from.line, len(e.lines)-1)
		e.at = position{line, indentOf([]rune(e.lines[line]))}
	case op == 'y':
		e.yank(from, to)
		e.at = from
	default:
		e.yank(from, to)
		e.remove(from, to)
	}
}

// outdent takes a tab, or eight blanks, from the beginning of a line.
func outdent(line string) string {
	if rest, ok := strings.CutPrefix(line, "\t"); ok {
		return rest
	}
	n := 0
	for n < len(line) && n < 8 && line[n] == ' ' {
		n++
	}
	return line[n:]
}

func indentOf(r []rune) int {
	for i, c := range r {
		if c != ' ' && c != '\t' {
			return i
		}
	}
	return max(0, len(r)-1)
}
