package vi

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// Main runs vi, or view with readOnly, with the arguments after its name and
// returns its exit status.
func Main(in io.Reader, out, stderr io.Writer, args []string) int {
	return run(in, out, stderr, args, false)
}

// View is Main for a file that is not to be changed.
func View(in io.Reader, out, stderr io.Writer, args []string) int {
	return run(in, out, stderr, args, true)
}

func run(in io.Reader, out, stderr io.Writer, args []string, readOnly bool) int {
	e := &editor{buffer: parse(nil), readOnly: readOnly}
	start := ""
	var files []string
	for i, a := range args {
		switch {
		case a == "--":
			files = append(files, args[i+1:]...)
		case a == "-R":
			e.readOnly = true
			continue
		case strings.HasPrefix(a, "+"):
			start = a[1:]
			continue
		case strings.HasPrefix(a, "-") && a != "-":
			fmt.Fprintf(stderr, "vi: unknown option: %s\nUsage: vi [-R] [+LINE | +/PATTERN] [FILE]\n", a)
			return 2
		default:
			files = append(files, a)
			continue
		}
		break
	}
	if len(files) > 1 {
		fmt.Fprintln(stderr, "vi: one file at a time")
		return 2
	}
	if len(files) == 1 {
		b, isNew, err := read(files[0])
		if err != nil {
			fmt.Fprintf(stderr, "vi: %s\n", screen.Visible(err.Error()))
			return 1
		}
		e.buffer, e.isNew, e.name = b, isNew, files[0]
		e.tell(e.where())
	}
	inFile, ok := in.(*os.File)
	outFile, ok2 := out.(*os.File)
	if !ok || !ok2 || !term.IsTerminal(int(inFile.Fd())) {
		fmt.Fprintln(stderr, "vi: no terminal here")
		return 1
	}
	s, err := screen.Open(inFile, outFile)
	if err != nil {
		fmt.Fprintf(stderr, "vi: %v\n", err)
		return 1
	}
	e.start(start)
	lost := (&view{e: e, s: s}).loop()
	s.Close()
	if lost != nil {
		fmt.Fprintln(stderr, "vi:", lost)
		return 1
	}
	return e.status
}

// start goes to where the command line says.
func (e *editor) start(at string) {
	if n, err := strconv.Atoi(at); err == nil {
		e.at.line = n - 1
	} else if text, ok := strings.CutPrefix(at, "/"); ok {
		e.at = position{len(e.lines) - 1, 1 << 30}
		e.lookFor(text, false)
		e.message = ""
	}
	e.clamp()
}

// view is an editor on a screen.
type view struct {
	e    *editor
	s    *screen.Screen
	top  int // the line in the first row
	left int // the column at the left
}

var errLost = errors.New("the terminal has gone, and what was not written with it")

func (v *view) loop() error {
	for !v.e.done {
		v.draw()
		event := <-v.s.Events()
		switch {
		case event.Ended && v.e.dirty:
			return errLost
		case event.Ended:
			return nil
		case event.Resize:
		case v.e.mode == normal && len(v.e.pending) == 0 && v.scroll(event.Key):
			v.e.message = ""
		default:
			v.e.key(event.Key)
		}
	}
	return nil
}

// scroll does the commands that are about the screen.
func (v *view) scroll(k screen.Key) bool {
	height := v.height()
	by := 0
	switch k {
	case screen.Ctrl('f'), screen.PageDown:
		by = max(1, height-2)
	case screen.Ctrl('b'), screen.PageUp:
		by = -max(1, height-2)
	case screen.Ctrl('d'):
		by = max(1, height/2)
	case screen.Ctrl('u'):
		by = -max(1, height/2)
	case screen.Ctrl('e'), screen.Ctrl('y'):
		step := 1
		if k == screen.Ctrl('y') {
			step = -1
		}
		v.top = max(0, min(v.top+step, len(v.e.lines)-1))
		v.e.at.line = max(v.top, min(v.e.at.line, v.top+height-1))
		v.e.clamp()
		return true
	case 'H', 'M', 'L':
		v.e.at.line = v.top + map[screen.Key]int{'H': 0, 'M': (min(height, len(v.e.lines)-v.top) - 1) / 2, 'L': height - 1}[k]
		v.e.clamp()
		v.e.at.col = indentOf(v.e.line())
		return true
	default:
		return false
	}
	v.top = max(0, min(v.top+by, len(v.e.lines)-1))
	v.e.at.line += by
	v.e.clamp()
	v.e.at.col = indentOf(v.e.line())
	return true
}

func (v *view) height() int {
	rows, _ := v.s.Size()
	return max(1, rows-1)
}

// cells are the characters of a line as they are shown, and the column of each,
// with that of the end behind it.
func cells(r []rune) (shown []string, columns []int) {
	column := 0
	for _, c := range r {
		text := string(c)
		switch {
		case c == '\t':
			text = strings.Repeat(" ", 8-column%8)
		case c >= oddByte && c <= oddByte+0xff:
			text = fmt.Sprintf("<%02X>", c-oddByte)
		case !unicode.IsPrint(c):
			text = screen.Visible(text)
		}
		shown, columns = append(shown, text), append(columns, column)
		column += screen.Width(text)
	}
	return shown, append(columns, column)
}

func (v *view) draw() {
	e := v.e
	rows, width := v.s.Size()
	height := max(1, rows-1)
	if e.at.line < v.top || e.at.line >= v.top+height {
		v.top = e.at.line
		if e.at.line >= v.top+height || e.at.line > 0 {
			v.top = max(0, e.at.line-height/2)
		}
	}
	margin := 0
	if e.numbers {
		margin = 8
	}
	_, columns := cells(e.line())
	column := columns[min(e.at.col, len(columns)-1)]
	room := max(1, width-margin)
	if column < v.left || column >= v.left+room {
		v.left = max(0, column-room/2)
		if column < room {
			v.left = 0
		}
	}
	var lines []string
	for i := v.top; len(lines) < height; i++ {
		if i >= len(e.lines) {
			lines = append(lines, "~")
			continue
		}
		number := ""
		if e.numbers {
			number = fmt.Sprintf("%7d ", i+1)
		}
		lines = append(lines, screen.Cut(number+v.row([]rune(e.lines[i]), room), width))
	}
	status, cursorRow, cursorColumn := v.status(), e.at.line-v.top, column-v.left+margin
	if e.mode == command {
		status = string(rune(e.prompt)) + screen.Visible(e.typed)
		cursorRow, cursorColumn = height, screen.Width(status)
	}
	shown := screen.Cut(status, width-1)
	if e.failed && e.message != "" && e.mode != command {
		shown = screen.Reverse + shown
	}
	v.s.Draw(append(lines, shown), cursorRow, min(cursorColumn, width-1))
}

// row is what of a line fits between the left and the right.
func (v *view) row(r []rune, room int) string {
	shown, columns := cells(r)
	var b strings.Builder
	for i, text := range shown {
		switch {
		case columns[i+1] <= v.left:
		case columns[i] < v.left:
			b.WriteString(strings.Repeat(" ", columns[i+1]-v.left))
		case columns[i+1] > v.left+room:
			return b.String()
		default:
			b.WriteString(text)
		}
	}
	return b.String()
}

func (v *view) status() string {
	e := v.e
	switch {
	case e.message != "":
		return screen.Visible(e.message)
	case e.mode == insert:
		return "-- INSERT --"
	case e.mode == replace:
		return "-- REPLACE --"
	}
	name := screen.Visible(e.name)
	if name == "" {
		name = "[No file]"
	}
	if e.dirty {
		name += " [Modified]"
	}
	return fmt.Sprintf("%s  %d,%d", name, e.at.line+1, e.at.col+1)
}
