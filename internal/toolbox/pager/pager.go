// Package pager is the command less of the toolbox: it shows files, or what comes
// by a pipe, a screen at a time. [Main] takes the command's arguments. Without a
// terminal it passes all on, as less does.
package pager

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

const usage = `Usage: less [-eEFiINRSX] [-p PATTERN] [+NUMBER | +G | +F | +/PATTERN] [FILE...]
  -N  line numbers            -S  cut long lines off      -R  show colors
  -i  search without case, if the pattern has none of it  -I  in any case
  -F  end if all fits on the screen    -e, -E  end at the end    -X  leave the last screen
`

// options are what is asked for; keys change some.
type options struct {
	numbers, chop, colors, fits, atEnd, leave bool
	foldLower, foldAll                        bool
	first                                     string // as a key would: "12g", "G", "F", "/x"
}

// Main runs the command with the arguments after its name and returns its exit
// status.
func Main(in io.Reader, out, stderr io.Writer, args []string) int {
	o, files, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "less: %v\n%s", err, usage)
		return 2
	}
	inFile, inTerminal := terminal(in)
	outFile, outTerminal := terminal(out)
	if len(files) == 0 {
		if inTerminal {
			fmt.Fprintf(stderr, "Missing filename (\"less --help\" for help)\n")
			return 1
		}
		files = []string{"-"}
	}
	if !outTerminal {
		return pass(in, out, stderr, files)
	}
	keys := inFile
	if !inTerminal {
		if keys, err = screen.Terminal(); err != nil {
			return pass(in, out, stderr, files)
		}
		defer keys.Close()
	}
	p := &pager{options: o, in: in, files: files}
	if err := p.run(keys, outFile); err != nil {
		fmt.Fprintf(stderr, "%v\n", err)
		return 1
	}
	return 0
}

func terminal(f any) (*os.File, bool) {
	file, ok := f.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

func parse(args []string) (o options, files []string, err error) {
	long := map[string]string{"chop-long-lines": "S", "LINE-NUMBERS": "N", "RAW-CONTROL-CHARS": "R", "quit-if-one-screen": "F", "ignore-case": "i", "IGNORE-CASE": "I", "no-init": "X", "quit-at-eof": "e", "QUIT-AT-EOF": "E"}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return o, append(files, args...), nil
		case strings.HasPrefix(arg, "+") && len(arg) > 1:
			o.first = arg[1:]
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			files = append(files, arg)
		case strings.HasPrefix(arg, "--"):
			name, ok := long[arg[2:]]
			if !ok {
				return o, nil, fmt.Errorf("there is no %s option", arg)
			}
			if err := o.set(name[0]); err != nil {
				return o, nil, err
			}
		default:
			for i := 1; i < len(arg); i++ {
				if arg[i] != 'p' {
					if err := o.set(arg[i]); err != nil {
						return o, nil, err
					}
					continue
				}
				pattern := arg[i+1:]
				if pattern == "" {
					if len(args) == 0 {
						return o, nil, errors.New("value is required after -p")
					}
					pattern, args = args[0], args[1:]
				}
				o.first = "/" + pattern
				break
			}
		}
	}
	return o, files, nil
}

// set turns an option on, or off again.
func (o *options) set(letter byte) error {
	to := map[byte]*bool{'N': &o.numbers, 'S': &o.chop, 'R': &o.colors, 'F': &o.fits, 'e': &o.atEnd, 'E': &o.atEnd, 'X': &o.leave, 'i': &o.foldLower, 'I': &o.foldAll}[letter]
	if to == nil {
		return fmt.Errorf("there is no -%c option", letter)
	}
	*to = !*to
	return nil
}

// pass copies the files.
func pass(in io.Reader, out, stderr io.Writer, files []string) int {
	status := 0
	for _, name := range files {
		r := in
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				fmt.Fprintln(stderr, err)
				status = 1
				continue
			}
			defer f.Close()
			r = f
		}
		if _, err := io.Copy(out, r); err != nil {
			fmt.Fprintf(stderr, "less: %s: %v\n", screen.Visible(name), err)
			status = 1
		}
	}
	return status
}

// pager shows one of the files.
type pager struct {
	options
	in    io.Reader
	files []string
	at    int // of files
	src   *source
	s     *screen.Screen

	top      int // the line at the top, from 0,
	sub      int // and the row of it
	left     int // the first column, with chop
	pattern  *regexp.Regexp
	backward bool
	number   string // typed before a command
	message  string // in the last row, until the next key
	prompt   string // "/" or such while a line is typed
	typed    string
	follow   bool
	shown    []string
}

func (p *pager) run(keys, out *os.File) error {
	if err := p.open(0); err != nil {
		return err
	}
	if p.fits && len(p.files) == 1 {
		if p.passShort(out) {
			return nil
		}
	}
	s, err := screen.Open(keys, out)
	if err != nil {
		return err
	}
	p.s = s
	p.begin()
	for p.step() {
		continue
	}
	s.Close()
	if p.leave {
		for _, l := range p.shown {
			fmt.Fprintln(out, l+screen.Plain)
		}
	}
	return nil
}

// passShort prints what fits on the screen. A pipe is waited for as long as that
// may be.
func (p *pager) passShort(out *os.File) (done bool) {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return false // then it is shown
	}
	for p.src.more != nil && p.src.known() < height {
		if _, ok := <-p.src.more; !ok {
			break
		}
		for p.src.scan() {
			continue
		}
	}
	var all []string
	for i := 0; p.src.has(i); i++ {
		list, _, _ := glyphs(p.src.line(i), p.colors)
		for _, r := range rows(list, max(1, width)) {
			all = append(all, text(r))
		}
		if len(all) >= height {
			return false
		}
	}
	for _, l := range all {
		fmt.Fprintln(out, l+screen.Plain)
	}
	return true
}

func (p *pager) open(i int) error {
	src, err := openSource(p.files[i], p.in)
	if err != nil {
		return err
	}
	if p.src != nil && p.src.name != "-" {
		p.src.file.Close()
	}
	p.at, p.src, p.top, p.sub, p.left, p.follow = i, src, 0, 0, 0, false
	if len(p.files) > 1 {
		p.message = fmt.Sprintf("%s (file %d of %d)", src.title, i+1, len(p.files))
	}
	return nil
}

// begin does what the command line asks for at first.
func (p *pager) begin() {
	first := p.first
	switch {
	case first == "":
	case first[0] == '/' || first[0] == '?':
		p.prompt, p.typed = first[:1], first[1:]
		p.entered()
	default:
		if _, err := strconv.Atoi(first); err == nil {
			first += "g"
		}
		for _, r := range first {
			p.key(screen.Key(r))
		}
	}
}

// followTime is how often a file is looked at that may grow.
const followTime = 200 * time.Millisecond

// step waits for something and does it; false ends.
func (p *pager) step() bool {
	var more <-chan struct{}
	var again <-chan time.Time
	// Before it is drawn: what end finds is drawn, and of what comes afterwards there is word.
	if p.follow || p.end() {
		more = p.src.more
	}
	p.draw()
	if p.follow && p.src.more == nil {
		again = time.After(followTime)
	}
	select {
	case e := <-p.s.Events():
		if e.Ended {
			return false
		}
		return e.Resize || p.key(e.Key)
	case _, ok := <-more:
		if !ok {
			p.src.more = nil
		}
		for p.src.scan() {
			continue
		}
	case <-again:
		p.src.count()
	}
	if p.follow {
		p.last()
	}
	return true
}

// page is how many rows show lines, of how many columns.
func (p *pager) page() (height, width int) {
	height, width = p.s.Size()
	return max(1, height-1), width - p.margin()
}

// margin is what line numbers take.
func (p *pager) margin() int {
	if p.numbers {
		return 8
	}
	return 0
}

// lineRows are the rows of a line.
func (p *pager) lineRows(i int) [][]glyph {
	_, width := p.page()
	list, plain, at := glyphs(p.src.line(i), p.colors)
	mark(list, plain, at, p.pattern)
	if p.chop {
		return [][]glyph{chop(list, p.left, width)}
	}
	return rows(list, max(1, width))
}

// forward moves down by n rows, until the end is at the bottom.
func (p *pager) forward(n int) {
	for ; n > 0 && !p.end(); n-- {
		if p.sub+1 < len(p.lineRows(p.top)) {
			p.sub++
		} else {
			p.top, p.sub = p.top+1, 0
		}
	}
}

func (p *pager) backwards(n int) {
	for ; n > 0 && (p.top > 0 || p.sub > 0); n-- {
		if p.sub > 0 {
			p.sub--
		} else {
			p.top--
			p.sub = len(p.lineRows(p.top)) - 1
		}
	}
}

// end tells whether the last row is on the screen.
func (p *pager) end() bool {
	height, _ := p.page()
	left := height
	for i := p.top; p.src.has(i); i++ {
		n := len(p.lineRows(i))
		if i == p.top {
			n -= p.sub
		}
		if left -= n; left < 0 {
			return false
		}
	}
	return true
}

// last goes to the end.
func (p *pager) last() {
	n := p.src.count()
	p.top, p.sub = n, 0
	height, _ := p.page()
	p.backwards(height)
}

func (p *pager) draw() {
	height, width := p.page()
	var lines []string
	for i := p.top; len(lines) < height && p.src.has(i); i++ {
		list := p.lineRows(i)
		if i == p.top {
			p.sub = min(p.sub, len(list)-1)
			list = list[p.sub:]
		}
		for j, r := range list {
			if len(lines) == height {
				break
			}
			number := ""
			if p.numbers {
				number = strings.Repeat(" ", p.margin())
				if j == 0 && (i > p.top || p.sub == 0) {
					number = fmt.Sprintf("%7d ", i+1)
				}
			}
			lines = append(lines, number+text(r))
		}
	}
	p.shown = lines
	for len(lines) < height {
		lines = append(lines, "~")
	}
	status, column := p.status(), 0
	if p.prompt != "" {
		status = p.prompt + screen.Visible(p.typed)
		column = screen.Width(status)
	} else {
		column = screen.Width(status)
		if status != ":" {
			status = screen.Reverse + screen.Cut(status, width+p.margin()-1)
		}
	}
	p.s.Draw(append(lines, status), height, min(column, width+p.margin()-1))
}

func (p *pager) status() string {
	switch {
	case p.message != "":
		return screen.Visible(p.message)
	case p.number != "":
		return ":" + p.number
	case p.follow:
		return "Waiting for data... (interrupt to abort)"
	case p.end() && p.src.more == nil:
		if p.at+1 < len(p.files) {
			return "(END) - Next: " + screen.Visible(p.files[p.at+1])
		}
		return "(END)"
	case p.top == 0 && p.sub == 0 && p.src.name != "-":
		return screen.Visible(p.src.title)
	}
	return ":"
}
