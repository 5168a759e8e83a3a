package vi

import (
	"unicode"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// extent is what an operator takes of a motion.
type extent int

const (
	exclusive extent = iota // up to the place
	inclusive               // with it
	lineWise                // whole lines
)

// motion finds where keys lead; count 0: none was given. Of an operator it may lead
// behind the last character.
func (e *editor) motion(keys []screen.Key, count int, forOperator bool) (to position, kind extent, ok bool) {
	n := max(1, count)
	r := e.line()
	at := e.at
	keepWant := false
	defer func() {
		if ok && !keepWant && !forOperator {
			e.want = to.col
		}
	}()
	vertical := func(line int) (position, extent, bool) {
		keepWant = true
		if line < 0 || line >= len(e.lines) {
			if line < 0 && at.line == 0 || line >= len(e.lines) && at.line == len(e.lines)-1 {
				return at, lineWise, false
			}
			line = max(0, min(line, len(e.lines)-1))
		}
		return position{line, min(e.want, max(0, len([]rune(e.lines[line]))-1))}, lineWise, true
	}
	firstOf := func(line int) (position, extent, bool) {
		line = max(0, min(line, len(e.lines)-1))
		return position{line, indentOf([]rune(e.lines[line]))}, lineWise, true
	}
	switch keys[0] {
	case 'h', screen.Left, screen.Backspace:
		return position{at.line, max(0, at.col-n)}, exclusive, true
	case 'l', ' ', screen.Right:
		return position{at.line, min(len(r), at.col+n)}, exclusive, true
	case 'j', screen.Down, screen.Ctrl('n'), '\n':
		return vertical(at.line + n)
	case 'k', screen.Up, screen.Ctrl('p'):
		return vertical(at.line - n)
	case '+', screen.Enter:
		return firstOf(at.line + n)
	case '-':
		return firstOf(at.line - n)
	case '0', screen.Home:
		return position{at.line, 0}, exclusive, true
	case '^', '_':
		return position{at.line, indentOf(r)}, exclusive, true
	case '|':
		return position{at.line, min(len(r), n-1)}, exclusive, true
	case '$', screen.End:
		line := min(len(e.lines)-1, at.line+n-1)
		return position{line, max(0, len([]rune(e.lines[line]))-1)}, inclusive, true
	case 'G':
		if count == 0 {
			return firstOf(len(e.lines) - 1)
		}
		return firstOf(count - 1)
	case 'g':
		if keys[1] == 'g' {
			return firstOf(n - 1)
		}
		return at, exclusive, false
	case 'w', 'W':
		return repeat(at, n, keys[0] == 'W', e.nextWord), exclusive, true
	case 'b', 'B':
		return repeat(at, n, keys[0] == 'B', e.previousWord), exclusive, true
	case 'e', 'E':
		return repeat(at, n, keys[0] == 'E', e.endOfWord), inclusive, true
	case '}', '{':
		return e.paragraph(n, keys[0] == '}'), exclusive, true
	case 'f', 'F', 't', 'T':
		e.findKey = [2]rune{rune(keys[0]), rune(keys[1])}
		return e.find(e.findKey, n)
	case ';', ',':
		key := e.findKey
		if key[0] == 0 {
			return at, exclusive, false
		}
		if keys[0] == ',' {
			key[0] = map[rune]rune{'f': 'F', 'F': 'f', 't': 'T', 'T': 't'}[key[0]]
		}
		return e.find(key, n)
	case '%':
		return e.bracket()
	case 'n', 'N':
		backward := e.backward != (keys[0] == 'N')
		for range min(n, 1000) {
			if at, ok = e.search(at, backward); !ok {
				return at, exclusive, false
			}
		}
		return at, exclusive, true
	default:
		return at, exclusive, false
	}
}

// repeat moves n times, or to the end.
func repeat(at position, n int, big bool, move func(position, bool) position) position {
	for range n {
		next := move(at, big)
		if next == at {
			break
		}
		at = next
	}
	return at
}

// class sorts characters into blanks, those of words, and others.
func class(c rune, big bool) int {
	switch {
	case unicode.IsSpace(c):
		return 0
	case big || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
		return 1
	}
	return 2
}

// nextWord is the beginning of the next word; an empty line is one.
func (e *editor) nextWord(p position, big bool) position {
	r := []rune(e.lines[p.line])
	if p.col < len(r) {
		for c := class(r[p.col], big); p.col < len(r) && c != 0 && class(r[p.col], big) == c; {
			p.col++
		}
	}
	for {
		for p.col < len(r) && class(r[p.col], big) == 0 {
			p.col++
		}
		if p.col < len(r) {
			return p
		}
		if p.line+1 >= len(e.lines) {
			return position{p.line, len(r)}
		}
		p = position{p.line + 1, 0}
		if r = []rune(e.lines[p.line]); len(r) == 0 {
			return p
		}
	}
}

func (e *editor) previousWord(p position, big bool) position {
	r := []rune(e.lines[p.line])
	p.col = min(p.col, len(r))
	for {
		for p.col > 0 && class(r[p.col-1], big) == 0 {
			p.col--
		}
		if p.col > 0 {
			for c := class(r[p.col-1], big); p.col > 0 && class(r[p.col-1], big) == c; {
				p.col--
			}
			return p
		}
		if p.line == 0 {
			return p
		}
		r = []rune(e.lines[p.line-1])
		if p = (position{p.line - 1, len(r)}); len(r) == 0 {
			return p
		}
	}
}

func (e *editor) endOfWord(p position, big bool) position {
	r := []rune(e.lines[p.line])
	p.col++
	for {
		for p.col < len(r) && class(r[p.col], big) == 0 {
			p.col++
		}
		if p.col < len(r) {
			for c := class(r[p.col], big); p.col+1 < len(r) && class(r[p.col+1], big) == c; {
				p.col++
			}
			return p
		}
		if p.line+1 >= len(e.lines) {
			return position{p.line, max(0, len(r)-1)}
		}
		p = position{p.line + 1, 0}
		r = []rune(e.lines[p.line])
	}
}

func (e *editor) paragraph(n int, forward bool) position {
	step, line := 1, e.at.line
	if !forward {
		step = -1
	}
	for range n {
		for line+step >= 0 && line+step < len(e.lines) && e.lines[line] == "" {
			line += step
		}
		for line+step >= 0 && line+step < len(e.lines) && e.lines[line] != "" {
			line += step
		}
	}
	if forward && line == len(e.lines)-1 && e.lines[line] != "" {
		return position{line, len([]rune(e.lines[line]))}
	}
	return position{line, 0}
}

// find is a character in the line.
func (e *editor) find(key [2]rune, n int) (position, extent, bool) {
	r := e.line()
	step, kind := 1, inclusive
	if key[0] == 'F' || key[0] == 'T' {
		step, kind = -1, exclusive
	}
	col := e.at.col
	if key[0] == 't' || key[0] == 'T' {
		// Right in front of it, ";" goes to the next.
		if next := col + step; next >= 0 && next < len(r) && r[next] == key[1] && n == 1 {
			col += step
		}
	}
	for range n {
		for col += step; ; col += step {
			if col < 0 || col >= len(r) {
				return e.at, kind, false
			}
			if r[col] == key[1] {
				break
			}
		}
	}
	if key[0] == 't' || key[0] == 'T' {
		col -= step
	}
	return position{e.at.line, col}, kind, true
}

// bracket is the one that belongs to the next one in the line.
func (e *editor) bracket() (position, extent, bool) {
	const open, shut = "([{", ")]}"
	r := e.line()
	for col := e.at.col; col < len(r); col++ {
		for i := range open {
			self, other, step := rune(open[i]), rune(shut[i]), 1
			if r[col] == other {
				self, other, step = other, self, -1
			}
			if r[col] != self {
				continue
			}
			return e.match(position{e.at.line, col}, self, other, step)
		}
	}
	return e.at, inclusive, false
}

func (e *editor) match(p position, self, other rune, step int) (position, extent, bool) {
	depth := 0
	for line := p.line; line >= 0 && line < len(e.lines); line += step {
		r := []rune(e.lines[line])
		col := 0
		if step < 0 {
			col = len(r) - 1
		}
		if line == p.line {
			col = p.col
		}
		for ; col >= 0 && col < len(r); col += step {
			switch r[col] {
			case self:
				depth++
			case other:
				if depth--; depth == 0 {
					return position{line, col}, inclusive, true
				}
			}
		}
	}
	return e.at, inclusive, false
}

// search is the next match of the pattern, around the ends.
func (e *editor) search(from position, backward bool) (position, bool) {
	if e.pattern == nil {
		e.error("No previous regular expression")
		return from, false
	}
	for i := range len(e.lines) + 1 {
		line := from.line + i
		if backward {
			line = from.line - i
		}
		wrapped := line < 0 || line >= len(e.lines)
		line = (line%len(e.lines) + len(e.lines)) % len(e.lines)
		text := e.lines[line]
		best, found := 0, false
		for _, m := range e.pattern.FindAllStringIndex(text, -1) {
			col := len([]rune(text[:m[0]]))
			switch {
			case i == 0 && !backward && col <= from.col, i == 0 && backward && col >= from.col:
				continue
			case !backward && found:
				continue
			}
			best, found = col, true
		}
		if found {
			if wrapped {
				e.tell("search went around the end")
			}
			return position{line, best}, true
		}
	}
	e.error("Pattern not found")
	return from, false
}
