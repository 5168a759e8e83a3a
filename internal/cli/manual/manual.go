// Package manual writes the pages about the command line from its commands: what
// they say of themselves is the only source.
//
//	for name, page := range manual.Markdown(cli.Tree()) { … }
//	for name, page := range manual.Man(cli.Tree()) { … }
//
// A command that has several forms, as "run" and "container run", has one page, at
// its shortest form. Package cobra/doc does the like, but folds the examples that
// stand in descriptions, and knows one form of each command.
package manual

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

//go:generate go run ./generate -markdown ../../../docs/commands

// page is what there is to say of a command.
type page struct {
	cmd    *cobra.Command
	path   string   // "porthole network create"
	forms  []string // all of them, if there are several
	groups []part   // of the commands below it
}

// part is a kind of the commands below another.
type part struct {
	title string
	subs  []sub
}

// sub is a command below another.
type sub struct{ name, page, short string }

// file is the name of a page without its ending: "porthole-network-create".
func file(path string) string { return strings.ReplaceAll(path, " ", "-") }

// book is the pages of a tree, by path, and what other forms of the commands stand for.
type book struct {
	pages []*page
	other map[string]string // path of a form that has no page of its own: that of its page
}

func read(root *cobra.Command) *book {
	b := &book{other: map[string]string{}}
	paths := map[string]bool{}
	walk(root, func(c *cobra.Command) { paths[c.CommandPath()] = true })
	walk(root, func(c *cobra.Command) {
		path, forms := c.CommandPath(), command.Names(c)
		if c.HasParent() {
			if parent, ok := b.other[c.Parent().CommandPath()]; ok {
				b.other[path] = parent + " " + c.Name()
				return
			}
		}
		for _, f := range forms {
			if paths[f] && strings.Count(f, " ") < strings.Count(path, " ") {
				b.other[path] = f
				return
			}
		}
		b.pages = append(b.pages, &page{cmd: c, path: path, forms: forms})
	})
	for _, p := range b.pages {
		for _, kind := range command.Parts(p.cmd) {
			list := part{title: kind.Title}
			for _, c := range kind.Commands {
				at := c.CommandPath()
				list.subs = append(list.subs, sub{name: c.Name(), page: cmp.Or(b.other[at], at), short: c.Short})
			}
			if len(list.subs) > 0 {
				p.groups = append(p.groups, list)
			}
		}
	}
	return b
}

// walk calls fn for a command and all below it that people are to see.
func walk(c *cobra.Command, fn func(*cobra.Command)) {
	fn(c)
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			walk(below, fn)
		}
	}
}

// option is a flag.
type option struct {
	short, long string   // without dashes; short may be empty
	value       string   // what its argument is called; empty: it has none
	usage       []string // lines
	preset      string   // the default; empty: none
}

func options(c *cobra.Command) (list []option) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		o := option{long: f.Name}
		if f.ShorthandDeprecated == "" {
			o.short = f.Shorthand
		}
		value, usage := pflag.UnquoteUsage(f)
		o.value = value
		for line := range strings.Lines(usage) {
			o.usage = append(o.usage, strings.TrimSpace(line))
		}
		if zero := []string{"", "0", "0s", "false", "[]", "map[]", "<nil>"}; !slices.Contains(zero, f.DefValue) {
			o.preset = f.DefValue
		}
		list = append(list, o)
	})
	return list
}

// block is a part of a description: running text, or lines that stay as they are.
type block struct {
	verbatim bool
	lines    []string
}

// blocks takes a description apart. Lines that are indented stay as they are.
func blocks(text string) (list []block) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, " \n")
		indented := strings.HasPrefix(line, "  ")
		switch n := len(list); {
		case line == "":
			list = append(list, block{})
		case n == 0 || indented != list[n-1].verbatim:
			list = append(list, block{indented, []string{line}})
		default:
			list[n-1].lines = append(list[n-1].lines, line)
		}
	}
	list = slices.DeleteFunc(list, func(b block) bool { return len(b.lines) == 0 })
	return list
}

// description is what a command says of itself, or the one line if there is no more.
func description(c *cobra.Command) []block {
	list := blocks(cmp.Or(c.Long, c.Short))
	if c.Example != "" {
		list = append(list, block{true, strings.Split(strings.Trim(c.Example, "\n"), "\n")})
	}
	return list
}
