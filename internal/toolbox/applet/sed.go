package applet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/toolbox/bre"
)

// sedCommand knows the commands s d p q = a i c y and n, addresses by line,
// $ and expression, ranges of two, and ! after them.
func sedCommand(std IO, args []string) error {
	o, err := parse(args, "nErsi", "ef", map[string]byte{"quiet": 'n', "in-place": 'i', "regexp-extended": 'E'})
	if err != nil {
		return err
	}
	scripts := o.values['e']
	for _, f := range o.values['f'] {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		scripts = append(scripts, string(data))
	}
	if len(scripts) == 0 {
		if len(o.args) == 0 {
			return usageError("a script is missing")
		}
		scripts, o.args = o.args[:1], o.args[1:]
	}
	p := sedParser{text: strings.Join(scripts, "\n"), extended: o.has('E') || o.has('r')}
	program, err := p.program()
	if err != nil {
		return usageError(err.Error())
	}
	s := &sed{program: program, quiet: o.has('n')}
	if o.has('i') {
		return sedInPlace(std, s, o.args)
	}
	s.out = bufio.NewWriter(std.Out)
	// Files are one stream: line numbers go on.
	var readers []io.Reader
	for _, name := range o.args {
		if name == "-" {
			readers = append(readers, std.In)
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		readers = append(readers, f)
	}
	if len(readers) == 0 {
		readers = []io.Reader{std.In}
	}
	err = s.run(io.MultiReader(readers...))
	return errors.Join(err, s.out.Flush())
}

func sedInPlace(std IO, s *sed, files []string) error {
	return eachFile(std, "sed", files, func(name string, r io.Reader) error {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		tmp, err := os.CreateTemp(filepath.Dir(name), ".sed-")
		if err != nil {
			return err
		}
		defer os.Remove(tmp.Name())
		run := &sed{program: s.program, quiet: s.quiet, out: bufio.NewWriter(tmp)}
		err = errors.Join(run.run(r), run.out.Flush(), tmp.Chmod(info.Mode()), tmp.Close())
		if err != nil {
			return err
		}
		return os.Rename(tmp.Name(), name)
	})
}

type sedAddress struct {
	line int // 0: not by line
	last bool
	re   *regexp.Regexp
}

type sedCmd struct {
	from, to *sedAddress
	not      bool
	name     byte
	re       *regexp.Regexp
	text     string // replacement, or what a, i and c write
	with     []rune // of y
	nth      int
	global   bool
	print    bool
	active   bool // inside of a range
}

type sedParser struct {
	text     string
	extended bool
}

func (p *sedParser) program() ([]*sedCmd, error) {
	var program []*sedCmd
	for {
		p.text = strings.TrimLeft(p.text, " \t\n;")
		if p.text == "" {
			return program, nil
		}
		if p.text[0] == '#' {
			_, p.text, _ = strings.Cut(p.text, "\n")
			continue
		}
		c, err := p.command()
		if err != nil {
			return nil, err
		}
		program = append(program, c)
	}
}

func (p *sedParser) command() (*sedCmd, error) {
	c := &sedCmd{}
	var err error
	if c.from, err = p.address(); err != nil {
		return nil, err
	}
	if c.from != nil && strings.HasPrefix(p.text, ",") {
		p.text = strings.TrimLeft(p.text[1:], " ")
		if c.to, err = p.address(); err != nil {
			return nil, err
		}
		if c.to == nil {
			return nil, errors.New("an address is missing after ,")
		}
	}
	p.text = strings.TrimLeft(p.text, " ")
	if strings.HasPrefix(p.text, "!") {
		c.not = true
		p.text = strings.TrimLeft(p.text[1:], " ")
	}
	if p.text == "" {
		return nil, errors.New("a command is missing")
	}
	c.name, p.text = p.text[0], p.text[1:]
	switch c.name {
	case 'd', 'p', 'q', '=', 'n':
		return c, nil
	case 's':
		return c, p.substitute(c)
	case 'y':
		return c, p.transliterate(c)
	case 'a', 'i', 'c':
		var line string
		line, p.text, _ = strings.Cut(p.text, "\n")
		line = strings.TrimLeft(line, " \t")
		if rest, ok := strings.CutPrefix(line, `\`); ok {
			if line = strings.TrimLeft(rest, " \t"); line == "" {
				line, p.text, _ = strings.Cut(p.text, "\n")
			}
		}
		c.text = line
		return c, nil
	default:
		return nil, fmt.Errorf("command %q is not known", c.name)
	}
}

func (p *sedParser) address() (*sedAddress, error) {
	switch {
	case p.text == "":
		return nil, nil
	case p.text[0] == '$':
		p.text = p.text[1:]
		return &sedAddress{last: true}, nil
	case p.text[0] >= '0' && p.text[0] <= '9':
		digits := len(p.text) - len(strings.TrimLeft(p.text, "0123456789"))
		n, err := strconv.Atoi(p.text[:digits])
		p.text = p.text[digits:]
		return &sedAddress{line: n}, err
	case p.text[0] == '/':
		p.text = p.text[1:]
		pattern, err := p.until('/')
		if err != nil {
			return nil, err
		}
		re, err := p.regexp(pattern, false)
		return &sedAddress{re: re}, err
	default:
		return nil, nil
	}
}

// until takes the text up to a delimiter; an escaped one loses its backslash.
func (p *sedParser) until(delimiter byte) (string, error) {
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		c := p.text[i]
		switch {
		case c == '\\' && i+1 < len(p.text) && p.text[i+1] == delimiter:
			b.WriteByte(delimiter)
			i++
		case c == '\\' && i+1 < len(p.text):
			b.WriteByte(c)
			b.WriteByte(p.text[i+1])
			i++
		case c == delimiter:
			p.text = p.text[i+1:]
			return b.String(), nil
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("%q is missing", delimiter)
}

func (p *sedParser) regexp(pattern string, fold bool) (*regexp.Regexp, error) {
	if !p.extended {
		pattern = bre.Extended(pattern)
	}
	if fold {
		pattern = "(?i)" + pattern
	}
	return regexp.Compile(pattern)
}

func (p *sedParser) substitute(c *sedCmd) error {
	if p.text == "" {
		return errors.New("s needs an expression")
	}
	delimiter := p.text[0]
	p.text = p.text[1:]
	pattern, err := p.until(delimiter)
	if err != nil {
		return err
	}
	if c.text, err = p.until(delimiter); err != nil {
		return err
	}
	fold := false
	for p.text != "" && strings.IndexByte(" \t\n;}", p.text[0]) < 0 {
		f := p.text[0]
		switch {
		case f == 'g':
			c.global = true
		case f == 'p':
			c.print = true
		case f == 'I' || f == 'i':
			fold = true
		case f >= '1' && f <= '9':
			c.nth = int(f - '0')
		default:
			return fmt.Errorf("option %q of s is not known", f)
		}
		p.text = p.text[1:]
	}
	c.re, err = p.regexp(pattern, fold)
	return err
}

func (p *sedParser) transliterate(c *sedCmd) error {
	if p.text == "" {
		return errors.New("y needs two lists")
	}
	delimiter := p.text[0]
	p.text = p.text[1:]
	var err error
	if c.text, err = p.until(delimiter); err != nil {
		return err
	}
	with, err := p.until(delimiter)
	c.with = []rune(with)
	if err == nil && len([]rune(c.text)) != len(c.with) {
		err = errors.New("the lists of y differ in length")
	}
	return err
}

type sed struct {
	program []*sedCmd
	quiet   bool
	out     *bufio.Writer
	line    int
}

func (s *sed) run(r io.Reader) error {
	in := bufio.NewReader(r)
	next, err := in.ReadString('\n')
	for next != "" {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		current := strings.TrimSuffix(next, "\n")
		s.line++
		next, err = in.ReadString('\n')
		if quit := s.one(current, next == ""); quit {
			return nil
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// one runs the program on a line and tells whether it was the last.
func (s *sed) one(line string, last bool) (quit bool) {
	var after []string
	show := !s.quiet
program:
	for _, c := range s.program {
		if c.selects(s.line, line, last) == c.not {
			continue
		}
		switch c.name {
		case 'd':
			show = false
			break program
		case 'p':
			fmt.Fprintln(s.out, line)
		case 'q':
			quit = true
			break program
		case '=':
			fmt.Fprintln(s.out, s.line)
		case 'a':
			after = append(after, c.text)
		case 'i':
			fmt.Fprintln(s.out, c.text)
		case 'c':
			fmt.Fprintln(s.out, c.text)
			show = false
			break program
		case 's':
			var done bool
			if line, done = c.replace(line); done && c.print {
				fmt.Fprintln(s.out, line)
			}
		case 'y':
			from := []rune(c.text)
			line = strings.Map(func(r rune) rune {
				for i, f := range from {
					if f == r {
						return c.with[i]
					}
				}
				return r
			}, line)
		case 'n':
			break program
		}
	}
	if show {
		fmt.Fprintln(s.out, line)
	}
	for _, a := range after {
		fmt.Fprintln(s.out, a)
	}
	return quit
}

func (a *sedAddress) matches(n int, line string, last bool) bool {
	switch {
	case a.last:
		return last
	case a.re != nil:
		return a.re.MatchString(line)
	default:
		return a.line == n
	}
}

func (c *sedCmd) selects(n int, line string, last bool) bool {
	switch {
	case c.from == nil:
		return true
	case c.to == nil:
		return c.from.matches(n, line, last)
	case c.active:
		if c.to.matches(n, line, last) || c.to.line != 0 && n >= c.to.line {
			c.active = false
			return c.to.line == 0 || n <= c.to.line
		}
		return true
	case c.from.matches(n, line, last):
		c.active = c.to.line == 0 || c.to.line > n
		return true
	}
	return false
}

func (c *sedCmd) replace(line string) (string, bool) {
	matches := c.re.FindAllStringSubmatchIndex(line, -1)
	if len(matches) == 0 {
		return line, false
	}
	var b strings.Builder
	at, done := 0, false
	for i, m := range matches {
		if i+1 < c.nth || !c.global && done {
			continue
		}
		b.WriteString(line[at:m[0]])
		bre.Expand(&b, c.text, line, m, sedEscapes)
		at, done = m[1], true
	}
	b.WriteString(line[at:])
	return b.String(), done
}

// sedEscapes are what is not itself behind a backslash in a replacement.
var sedEscapes = map[byte]byte{'n': '\n', 't': '\t'}
