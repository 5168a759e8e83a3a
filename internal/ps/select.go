package ps

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// selection is one option that names processes, such as -p 1,2. Several of them add up.
type selection func(p *process, s *Source) bool

// selects tells whether a process is shown. Without an option that selects, or with one that selects all, it is.
func (f *Format) selects(p *process, s *Source) bool {
	if f.all || len(f.selections) == 0 {
		return true
	}
	return slices.ContainsFunc(f.selections, func(wanted selection) bool { return wanted(p, s) })
}

// A selector reads the list that follows an option.
type selector struct {
	what string // in the error of procps
	make func(words []string) (selection, error)
}

// byNumber selects by numbers of a process.
func byNumber(what string, get func(p *process) int) selector {
	return selector{what, func(words []string) (selection, error) {
		var numbers []int
		for _, w := range words {
			n, err := strconv.Atoi(w)
			if err != nil || n < 0 || n == 0 && strings.HasPrefix(what, "process ID") {
				return nil, errors.New("error: " + what + " syntax error")
			}
			numbers = append(numbers, n)
		}
		return func(p *process, _ *Source) bool { return slices.Contains(numbers, get(p)) }, nil
	}}
}

// byText selects by what is shown of a process: a name, or the number that it stands for.
func byText(what string, get func(p *process, s *Source) []string) selector {
	return selector{what, func(words []string) (selection, error) {
		return func(p *process, s *Source) bool {
			return slices.ContainsFunc(get(p, s), func(text string) bool { return slices.Contains(words, text) })
		}, nil
	}}
}

func named2(name func(s *Source, id uint32) string, id func(p *process) uint32) func(p *process, s *Source) []string {
	return func(p *process, s *Source) []string { return []string{name(s, id(p)), insideID(s, id(p))} }
}

var (
	byPID     = byNumber("process ID list", func(p *process) int { return p.pid })
	byParent  = byNumber("process ID list", func(p *process) int { return p.ppid })
	bySession = byNumber("session list", func(p *process) int { return p.session })
	byCommand = byText("list of command names", func(p *process, _ *Source) []string { return []string{p.comm} })
	byUser    = byText("list of users", named2((*Source).user, func(p *process) uint32 { return p.euid }))
	byReal    = byText("list of real users", named2((*Source).user, func(p *process) uint32 { return p.ruid }))
	byGroup   = byText("list of real groups", named2((*Source).group, func(p *process) uint32 { return p.rgid }))
	byTTY     = byText("list of terminals (pty, tty...)", func(p *process, _ *Source) []string {
		name := ttyName(p.tty)
		if name == "?" {
			return []string{"?", "-"}
		}
		return []string{name, filepath.Base(name), "/dev/" + name}
	})
)

// Options that select, by their style.
var (
	unixSelectors = map[byte]selector{'p': byPID, 'q': byPID, 's': bySession, 'g': bySession, 'C': byCommand, 'u': byUser, 'U': byReal, 'G': byGroup, 't': byTTY}
	bsdSelectors  = map[byte]selector{'p': byPID, 'q': byPID, 'U': byUser, 't': byTTY}
	gnuSelectors  = map[string]selector{
		"pid": byPID, "quick-pid": byPID, "ppid": byParent, "sid": bySession, "user": byUser, "User": byReal,
		"Group": byGroup, "group": byGroup, "tty": byTTY,
	}
)

// choose reads the list behind an option.
func (p *parser) choose(s selector, option, list string) error {
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 {
		return fmt.Errorf("error: %s must follow %s", strings.Replace(s.what, "process ID list", "list of process IDs", 1), option)
	}
	wanted, err := s.make(words)
	if err == nil {
		p.format.selections = append(p.format.selections, wanted)
	}
	return err
}
