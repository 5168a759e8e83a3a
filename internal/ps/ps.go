// Package ps lists processes as ps(1) of procps does, for a given set of pids, without running it.
//
//	f, err := ps.Parse("-ef")          // or "aux", "-eo pid,args", "axo pid,comm --sort=-rss"
//	titles, rows, err := f.List(ps.Source{...}, pids)
//
// It understands the three styles of options (-e, x, --sort), the usual output formats and the format specifiers listed
// in columns.go. Options that select processes by user, terminal and the like select among those that the caller gives.
// One option is ours: --nspid shows the pid inside beside the host's.
// Errors are worded like procps's. What a user is called is for the caller to say, because the processes of a container
// have other users than the host.
package ps

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Format is what a list looks like.
type Format struct {
	columns []column
	threads bool
	sort    []sortKey
	forest  forest
	noTitle bool
	wantPID bool // a column with the title PID exists

	all        bool // whatever selections say
	selections []selection
	environment, running,
	shortNames bool // e, r and c
}

// forest is how the command column shows descent.
type forest int

const (
	flat   forest = iota
	indent        // -H
	drawn         // --forest, f
)

type sortKey struct {
	column
	descending bool
}

// HasPID tells whether one of the columns has the title PID.
func (f *Format) HasPID() bool { return f.wantPID }

// parser is the state of Parse. What a user asks for by -o replaces all other formats.
type parser struct {
	words   []string
	at      int
	bsd     bool // an option without a dash was seen
	flags   map[string]bool
	chosen  []column
	format  Format
	preface bool // -O or O: chosen columns go behind PID
	nspid   bool // show the pid inside as well
}

// Parse reads ps options. Empty text means -ef.
func Parse(options string) (*Format, error) {
	words := strings.Fields(options)
	if len(words) == 0 || len(words) == 1 && words[0] == "--nspid" {
		words = append(words, "-ef")
	}
	p := parser{words: words, flags: map[string]bool{}}
	for ; p.at < len(p.words); p.at++ {
		w := p.words[p.at]
		var err error
		switch {
		case strings.HasPrefix(w, "--"):
			err = p.long(w[2:])
		case w == "-":
			err = errors.New("error: improper list")
		case strings.HasPrefix(w, "-"):
			err = p.unix(w[1:])
		default:
			err = p.plain(w)
		}
		if err != nil {
			return nil, err
		}
	}
	return p.finish()
}

// unix reads letters behind a dash.
func (p *parser) unix(letters string) error {
	// procps takes -aux for aux, as there is hardly a user of the name x.
	if strings.HasPrefix(letters, "au") && strings.Contains(letters, "x") {
		return p.plain(letters)
	}
	for i := 0; i < len(letters); i++ {
		c := letters[i]
		if s, ok := unixSelectors[c]; ok {
			return p.choose(s, "-"+string(c), p.argument(letters[i+1:]))
		}
		switch c {
		case 'e', 'A':
			p.format.all = true
		case 'a', 'd', 'w':
		case 'f', 'F', 'l', 'j', 'c', 'y', 'M', 'Z':
			p.flags["-"+string(c)] = true
		case 'H':
			p.format.forest = indent
		case 'L', 'T', 'm':
			p.format.threads = true
			p.flags["-"+string(c)] = true
		case 'o', 'O':
			p.preface = p.preface || c == 'O'
			return p.list(letters[i+1:])
		default:
			return errors.New("error: unsupported SysV option")
		}
	}
	return nil
}

// plain reads BSD letters.
func (p *parser) plain(letters string) error {
	p.bsd = true
	for i := 0; i < len(letters); i++ {
		c := letters[i]
		if s, ok := bsdSelectors[c]; ok {
			return p.choose(s, string(c), p.argument(letters[i+1:]))
		}
		switch c {
		case 'a', 'x', 'w', 'g', 'n', 'S', 'T':
		case 'u', 'l', 'j', 'v', 's', 'M', 'Z':
			p.flags[string(c)] = true
		case 'e':
			p.format.environment = true
		case 'r':
			p.format.running = true
		case 'c':
			p.format.shortNames = true
		case 'f':
			p.format.forest = drawn
		case 'H', 'm':
			p.format.threads = true
		case 'h':
			p.format.noTitle = true
		case 'o', 'O':
			p.preface = p.preface || c == 'O'
			return p.list(letters[i+1:])
		case 'k':
			return p.sortBy(p.argument(letters[i+1:]))
		default:
			return errors.New("error: unsupported option (BSD syntax)")
		}
	}
	return nil
}

// long reads a GNU option.
func (p *parser) long(name string) error {
	name, value, hasValue := strings.Cut(name, "=")
	selector, selects := gnuSelectors[name]
	if !hasValue && (name == "sort" || name == "format" || selects || wide[name]) {
		value = p.argument("")
	}
	if selects {
		return p.choose(selector, "--"+name, value)
	}
	switch name {
	case "sort":
		return p.sortBy(value)
	case "format":
		return p.addColumns(value)
	case "forest":
		p.format.forest = drawn
	case "no-headers", "no-heading", "noheaders", "noheading", "no-header", "noheader":
		p.format.noTitle = true
	case "headers", "cumulative", "context":
		p.flags["Z"] = p.flags["Z"] || name == "context"
	case "nspid":
		p.nspid = true
	default:
		if wide[name] {
			return nil // lines are never cut
		}
		return errors.New("error: unknown gnu long option")
	}
	return nil
}

// wide are options about a screen, of a width or a height that follows.
var wide = map[string]bool{"cols": true, "columns": true, "width": true, "rows": true, "lines": true}

// argument is what follows an option: the rest of its word, else the next word.
func (p *parser) argument(rest string) string {
	if rest != "" {
		return rest
	}
	if p.at+1 < len(p.words) {
		p.at++
		return p.words[p.at]
	}
	return ""
}

func (p *parser) list(rest string) error {
	arg := p.argument(rest)
	if arg == "" {
		return errors.New("error: format specification must follow -o")
	}
	return p.addColumns(arg)
}

// addColumns reads one list of format specifiers, each of which may have a title behind "=".
func (p *parser) addColumns(list string) error {
	for one := range strings.SplitSeq(strings.TrimSuffix(list, ","), ",") {
		name, title, titled := strings.Cut(one, "=")
		c, err := specifier(name)
		if err != nil {
			return err
		}
		if titled {
			c.title = title
		}
		p.chosen = append(p.chosen, c)
	}
	return nil
}

// specifier is a column, or one of a width: text that is longer is cut, as user names are with a + at the end.
func specifier(text string) (column, error) {
	name, width, sized := strings.Cut(text, ":")
	c, ok := columns[name]
	if !ok {
		return c, fmt.Errorf("error: unknown user-defined format specifier \"%s\"", text)
	}
	if !sized {
		return c, nil
	}
	n, err := strconv.Atoi(width)
	if err != nil || n <= 0 {
		return c, fmt.Errorf("error: unknown user-defined format specifier \"%s\"", text)
	}
	if c.number != nil {
		return c, nil // numbers are never cut
	}
	whole := c.text
	isName := strings.HasSuffix(c.title, "USER") || strings.HasSuffix(c.title, "GROUP") || name == "uidname"
	c.text = func(p *process, s *Source) string {
		text := []rune(whole(p, s))
		switch {
		case len(text) <= n:
			return string(text)
		case len(text) <= len(c.title) && isName: // a column is as wide as its title
			return string(text)
		case isName:
			return string(text[:max(n, len(c.title))-1]) + "+"
		}
		return string(text[:n])
	}
	return c, nil
}

func (p *parser) sortBy(list string) error {
	if list == "" {
		return errors.New("error: long sort specification must follow 'k'")
	}
	for name := range strings.SplitSeq(list, ",") {
		down := strings.HasPrefix(name, "-")
		c, ok := columns[strings.TrimLeft(name, "+-")]
		if !ok {
			return fmt.Errorf("error: unknown sort specifier")
		}
		p.format.sort = append(p.format.sort, sortKey{c, down})
	}
	return nil
}

// finish picks the columns.
func (p *parser) finish() (*Format, error) {
	names := p.names()
	if p.preface {
		names = preface
	}
	f := p.format
	for _, name := range names {
		f.columns = append(f.columns, columns[name])
	}
	if len(p.chosen) > 0 {
		if p.preface {
			f.columns = slices.Concat(f.columns[:1], p.chosen, f.columns[1:])
		} else {
			f.columns = p.chosen
		}
	}
	if p.nspid && !slices.ContainsFunc(f.columns, func(c column) bool { return c.title == "NSPID" }) {
		at := slices.IndexFunc(f.columns, func(c column) bool { return c.title == "PID" })
		f.columns = slices.Insert(slices.Clone(f.columns), at+1, columns["nspid"])
	}
	f.wantPID = slices.ContainsFunc(f.columns, func(c column) bool { return c.title == "PID" })
	if f.noTitle {
		f.wantPID = false
	}
	return &f, nil
}

var preface = []string{"pid", "s", "tname", "time", "command"}

// names are the columns of procps's own formats.
func (p *parser) names() []string {
	names := strings.Fields(p.base())
	if p.flags["-c"] && (p.flags["-f"] || p.flags["-F"] || p.flags["-l"]) {
		names = replace(names, []string{"c", "opri", "ni"}, "class", "pri")
	}
	if p.flags["-y"] && p.flags["-l"] {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "f" || n == "rss" })
		names = replace(names, []string{"addr"}, "rss")
	}
	if p.flags["-L"] {
		names = insertBehind(names, []string{"ppid", "pid"}, "lwp")
		if p.flags["-f"] || p.flags["-F"] || p.flags["u"] {
			names = insertBehind(names, []string{"c", "pcpu", "lwp"}, "nlwp")
		}
	}
	if p.flags["-T"] {
		names = insertBehind(names, []string{"pid"}, "spid")
	}
	if p.flags["-M"] || p.flags["-Z"] || p.flags["M"] || p.flags["Z"] {
		names = slices.Insert(names, 0, "label")
	}
	return names
}

func (p *parser) base() string {
	full := p.flags["-f"] || p.flags["-F"]
	switch {
	case p.flags["u"]:
		return "user pid pcpu pmem vsz rss tname stat bsdstart bsdtime command"
	case p.flags["l"]:
		return "f uid pid ppid priority ni vsz rss wchan stat tname bsdtime command"
	case p.flags["j"]:
		return "ppid pid pgid sid tname tpgid stat uid bsdtime command"
	case p.flags["s"]:
		return "uid pid pending blocked ignored caught stat tname bsdtime command"
	case p.flags["v"]:
		return "pid tname stat bsdtime maj_flt rss pmem command"
	case p.bsd && !full && !p.flags["-l"] && !p.flags["-j"]:
		return "pid tname stat bsdtime command"
	case p.flags["-F"] && p.flags["-l"]:
		return "f s uidname pid ppid c opri ni addr sz wchan rss psr stime tname time cmd"
	case p.flags["-F"]:
		return "uidname pid ppid c sz rss psr stime tname time cmd"
	case full && p.flags["-l"]:
		return "f s uidname pid ppid c opri ni addr sz wchan stime tname time cmd"
	case full && p.flags["-j"]:
		return "uidname pid ppid pgid sid c stime tname time cmd"
	case full:
		return "uidname pid ppid c stime tname time cmd"
	case p.flags["-l"]:
		return "f s uid pid ppid c opri ni addr sz wchan tname time ucmd"
	case p.flags["-j"]:
		return "pid pgid sid tname time ucmd"
	}
	return "pid tname time ucmd"
}

// replace puts others in the place of some names that stand together.
func replace(names, old []string, others ...string) []string {
	at := slices.Index(names, old[0])
	if at < 0 {
		return names
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(old, n) })
	return slices.Insert(names, at, others...)
}

// insertBehind puts a name behind the first of some others that is there.
func insertBehind(names, behind []string, name string) []string {
	for _, b := range behind {
		if i := slices.Index(names, b); i >= 0 {
			return slices.Insert(names, i+1, name)
		}
	}
	return names
}
