// Package ps lists processes as ps(1) of procps does, for a given set of pids, without running it.
//
//	f, err := ps.Parse("-ef")          // or "aux", "-eo pid,args", "axo pid,comm --sort=-rss"
//	titles, rows, err := f.List(ps.Source{...}, pids)
//
// It understands the three styles of options (-e, x, --sort), the usual output formats and the format specifiers listed
// in columns.go. Options that select processes by user, terminal and the like are refused: the caller has selected.
// Errors are worded like procps's. What a user is called is for the caller to say, because the processes of a container
// have other users than the host.
package ps

import (
	"errors"
	"fmt"
	"slices"
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
}

// Parse reads ps options. Empty text means -ef.
func Parse(options string) (*Format, error) {
	words := strings.Fields(options)
	if len(words) == 0 {
		words = []string{"-ef"}
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
		switch c := letters[i]; c {
		case 'e', 'A', 'a', 'd', 'N', 'w', 'M', 'c', 'y', 'Z':
			if c == 'y' || c == 'M' || c == 'Z' || c == 'N' || c == 'c' {
				return errors.New("error: unsupported SysV option")
			}
		case 'f', 'F', 'l', 'j':
			p.flags["-"+string(c)] = true
		case 'H':
			p.format.forest = indent
		case 'L', 'T':
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
		switch c := letters[i]; c {
		case 'a', 'x', 'w', 'g', 'r', 'c', 'T', 'e', 'n', 'S':
			if c == 'r' || c == 'T' || c == 'n' || c == 'S' || c == 'c' || c == 'e' {
				return errors.New("error: unsupported option (BSD syntax)")
			}
		case 'u', 'l', 'j', 'v', 's', 'X':
			if c == 's' || c == 'X' {
				return errors.New("error: unsupported option (BSD syntax)")
			}
			p.flags[string(c)] = true
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
	if !hasValue && (name == "sort" || name == "format") {
		value = p.argument("")
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
	case "headers", "cols", "columns", "width", "rows", "lines", "cumulative":
	default:
		return errors.New("error: unknown gnu long option")
	}
	return nil
}

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

// addColumns reads one list of format specifiers. A title behind "=" takes the rest of the list.
func (p *parser) addColumns(list string) error {
	for list != "" {
		end := strings.IndexAny(list, ",=")
		name, rest := list, ""
		if end >= 0 {
			name, rest = list[:end], list[end+1:]
		}
		c, ok := columns[name]
		if !ok {
			return fmt.Errorf("error: unknown user-defined format specifier \"%s\"", name)
		}
		if end >= 0 && list[end] == '=' {
			c.title, rest = rest, ""
		}
		p.chosen = append(p.chosen, c)
		list = rest
	}
	return nil
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
	f.wantPID = slices.ContainsFunc(f.columns, func(c column) bool { return c.title == "PID" })
	if f.noTitle {
		f.wantPID = false
	}
	return &f, nil
}

var preface = []string{"pid", "s", "tname", "time", "command"}

// names are the columns of procps's own formats.
func (p *parser) names() []string {
	var list string
	switch {
	case p.flags["u"]:
		list = "user pid pcpu pmem vsz rss tname stat bsdstart bsdtime command"
	case p.flags["l"]:
		list = "f uid pid ppid pri ni vsz rss wchan stat tname bsdtime command"
	case p.flags["j"]:
		list = "ppid pid pgid sid tname tpgid stat uid bsdtime command"
	case p.flags["v"]:
		list = "pid tname stat bsdtime majflt rss pmem command"
	case p.bsd && len(p.flags) == 0:
		list = "pid tname stat bsdtime command"
	case p.flags["-F"]:
		list = "uidname pid ppid c sz rss psr stime tname time cmd"
	case p.flags["-f"] && p.flags["-l"]:
		list = "f s uidname pid ppid c opri ni addr sz wchan stime tname time cmd"
	case p.flags["-f"] && p.flags["-j"]:
		list = "uidname pid ppid pgid sid c stime tname time cmd"
	case p.flags["-f"]:
		list = "uidname pid ppid c stime tname time cmd"
	case p.flags["-l"]:
		list = "f s uid pid ppid c opri ni addr sz wchan tname time ucmd"
	case p.flags["-j"]:
		list = "pid pgid sid tname time ucmd"
	default:
		list = "pid tname time ucmd"
	}
	names := strings.Fields(list)
	if p.flags["-L"] {
		names = insertBehind(names, []string{"ppid", "pid"}, "lwp")
		if p.flags["-f"] || p.flags["-F"] {
			names = insertBehind(names, []string{"c"}, "nlwp")
		}
	}
	if p.flags["-T"] {
		names = insertBehind(names, []string{"pid"}, "spid")
	}
	return names
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
