// Package vi is the command vi of the toolbox: a small editor that does what hands
// which know vi do with a configuration file. [Main] takes the command's
// arguments.
//
// It has motions, operators with counts, insertion and replacement, one register,
// undo and redo, repetition by ".", searches and the commands :w :q :x :e :r :s
// :d :set. It has no visual mode, no marks, no macros and no further registers,
// and says so. There is no kept library for this in Go that is smaller than the
// rest of the tools.
package vi

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// position is a place in the text: a line, and a character of it.
type position struct{ line, col int }

func (p position) before(q position) bool {
	return p.line < q.line || p.line == q.line && p.col < q.col
}

// mode is what keys do.
type mode int

const (
	normal mode = iota
	insert
	replace
	command // a line is typed at the bottom
)

// change is a state to return to.
type change struct {
	lines []string
	at    position
}

// editor is the state of editing, without a screen.
type editor struct {
	buffer
	name     string
	isNew    bool
	dirty    bool
	readOnly bool

	at   position
	want int // the column that up and down try to keep
	mode mode

	pending []screen.Key // of a command that is not whole yet
	last    []screen.Key // the last change, for "."
	record  []screen.Key // the keys of a change that is under way
	playing bool

	inserted []screen.Key // since an insertion began
	times    int          // how often it is to be put in

	prompt byte // ":" "/" or "?" while mode is command
	typed  string

	register string
	byLine   bool // the register has whole lines

	pattern  *regexp.Regexp
	backward bool
	findKey  [2]rune // the last f, F, t or T and its character

	undo, redo []change
	before     change // when a change began

	numbers bool
	message string
	failed  bool // the message is an error
	done    bool
	status  int
}

// What bounds the changes that can be undone: how many they are, and how many
// lines all of them have together.
const (
	undoLeast = 3
	undoMost  = 200
	undoLines = 4_000_000
)

func (e *editor) line() []rune { return []rune(e.lines[e.at.line]) }

func (e *editor) setLine(r []rune) { e.lines[e.at.line] = string(r); e.dirty = true }

func (e *editor) tell(text string)  { e.message, e.failed = text, false }
func (e *editor) error(text string) { e.message, e.failed, e.pending = text, true, nil }

// begin notes the state before a change.
func (e *editor) begin() {
	e.before = change{append([]string(nil), e.lines...), e.at}
}

// end makes what was done since begin one change.
func (e *editor) end() {
	if len(e.before.lines) == len(e.lines) {
		same := true
		for i := range e.lines {
			if e.lines[i] != e.before.lines[i] {
				same = false
				break
			}
		}
		if same {
			return
		}
	}
	e.dirty = true
	e.undo = append(e.undo, e.before)
	e.undo = e.undo[max(0, len(e.undo)-max(undoLeast, min(undoMost, undoLines/len(e.lines)))):]
	e.redo = nil
}

func (e *editor) swap(from, to *[]change, what string) {
	if len(*from) == 0 {
		e.error("Already at the " + what + " change")
		return
	}
	c := (*from)[len(*from)-1]
	*from = (*from)[:len(*from)-1]
	*to = append(*to, change{e.lines, c.at})
	e.lines, e.at, e.dirty = append([]string(nil), c.lines...), c.at, true
	e.clamp()
}

// clamp puts the cursor on a character.
func (e *editor) clamp() {
	e.at.line = max(0, min(e.at.line, len(e.lines)-1))
	n := len(e.line())
	if e.mode == normal {
		n--
	}
	e.at.col = max(0, min(e.at.col, n))
}

// key takes a key.
func (e *editor) key(k screen.Key) {
	if e.mode != command && !(e.mode == normal && len(e.pending) > 0) {
		e.message = ""
	}
	switch e.mode {
	case insert, replace:
		e.insertKey(k)
	case command:
		e.commandKey(k)
	case normal:
		e.normalKey(k)
	}
}

// insertKey takes a key while text is put in.
func (e *editor) insertKey(k screen.Key) {
	if !e.playing {
		e.record = append(e.record, k)
	}
	if k != screen.Escape {
		e.inserted = append(e.inserted, k)
	}
	switch k {
	case screen.Escape, screen.Ctrl('c'):
		e.insertAgain()
		e.mode = normal
		e.at.col--
		e.clamp()
		e.want = e.at.col
		e.end()
		if !e.playing {
			e.last, e.record = e.record, nil
		}
	case screen.Enter, '\n':
		r := e.line()
		col := min(e.at.col, len(r))
		e.lines[e.at.line] = string(r[:col])
		e.insertLines(e.at.line+1, []string{string(r[col:])})
		e.at = position{e.at.line + 1, 0}
	case screen.Backspace:
		e.rubOut(1)
	case screen.Ctrl('w'):
		n := 0
		for r := e.line(); n < e.at.col && unicode.IsSpace(r[e.at.col-n-1]); {
			n++
		}
		for r := e.line(); n < e.at.col && !unicode.IsSpace(r[e.at.col-n-1]); {
			n++
		}
		e.rubOut(max(1, n))
	case screen.Ctrl('u'):
		e.rubOut(e.at.col)
	case screen.Delete:
		if r := e.line(); e.at.col < len(r) {
			e.setLine(append(r[:e.at.col:e.at.col], r[e.at.col+1:]...))
		}
	case screen.Up, screen.Down, screen.Left, screen.Right, screen.Home, screen.End, screen.PageUp, screen.PageDown:
		if to, _, ok := e.motion([]screen.Key{k}, 1, false); ok {
			e.at = to
		}
		if k == screen.End {
			e.at.col = len(e.line())
		}
		e.clamp()
	default:
		if k == '\t' || k >= ' ' && k < screen.Up {
			e.put(rune(k))
		}
	}
}

// insertMost is how many keys a count may stand for.
const insertMost = 5000

// insertAgain puts in what was typed as often as a count has asked for.
func (e *editor) insertAgain() {
	keys, n, playing := e.inserted, e.times-1, e.playing
	e.times = 1
	if len(keys)*n > insertMost {
		e.error("That is too much to put in at once")
		return
	}
	e.playing = true // it is not recorded twice
	for range n {
		for _, k := range keys {
			e.insertKey(k)
		}
	}
	e.playing = playing
}

// put puts a character in, or over another.
func (e *editor) put(c rune) {
	r := e.line()
	col := min(e.at.col, len(r))
	rest := r[col:]
	if e.mode == replace && len(rest) > 0 {
		rest = rest[1:]
	}
	e.setLine(append(append(append([]rune(nil), r[:col]...), c), rest...))
	e.at.col = col + 1
}

// rubOut takes away what is before the cursor, or the end of the line before.
func (e *editor) rubOut(n int) {
	r := e.line()
	if e.at.col == 0 {
		if e.at.line == 0 || n == 0 {
			return
		}
		above := []rune(e.lines[e.at.line-1])
		e.lines[e.at.line-1] += string(r)
		e.deleteLines(e.at.line, e.at.line+1)
		e.at = position{e.at.line - 1, len(above)}
		return
	}
	n = min(n, e.at.col)
	e.setLine(append(r[:e.at.col-n:e.at.col-n], r[e.at.col:]...))
	e.at.col -= n
}

func (e *editor) insertLines(at int, list []string) {
	lines := append([]string(nil), e.lines[:at]...)
	e.lines = append(append(lines, list...), e.lines[at:]...)
	e.dirty = true
}

func (e *editor) deleteLines(from, to int) {
	lines := append([]string(nil), e.lines[:from]...)
	e.lines = append(lines, e.lines[to:]...)
	if len(e.lines) == 0 {
		e.lines = []string{""}
	}
	e.dirty = true
}

// text is what stands between two places.
func (e *editor) text(from, to position) string {
	if from.line == to.line {
		r := []rune(e.lines[from.line])
		return string(r[min(from.col, len(r)):min(to.col, len(r))])
	}
	first, last := []rune(e.lines[from.line]), []rune(e.lines[to.line])
	parts := []string{string(first[min(from.col, len(first)):])}
	parts = append(parts, e.lines[from.line+1:to.line]...)
	parts = append(parts, string(last[:min(to.col, len(last))]))
	return strings.Join(parts, "\n")
}

// remove takes away what stands between two places.
func (e *editor) remove(from, to position) {
	first, last := []rune(e.lines[from.line]), []rune(e.lines[to.line])
	joined := string(first[:min(from.col, len(first))]) + string(last[min(to.col, len(last)):])
	e.deleteLines(from.line+1, to.line+1)
	e.lines[from.line] = joined
	e.at = from
}
