package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// Man returns the pages of section 1 for man(1) by their file names, in the macros
// of man(7). Other forms of a command, as porthole-container-run.1, lead to its page.
func Man(root *cobra.Command) map[string][]byte {
	b := read(root)
	pages := map[string][]byte{}
	for _, p := range b.pages {
		pages[file(p.path)+".1"] = []byte(p.man())
	}
	for form, path := range b.other {
		pages[file(form)+".1"] = []byte(".so man1/" + file(path) + ".1\n")
	}
	return pages
}

func (p *page) man() string {
	var b strings.Builder
	name := file(p.path)
	fmt.Fprintf(&b, ".\\\" Made from the command line by internal/cli/manual.\n.TH %s 1 \"\" Porthole \"Porthole manual\"\n", strings.ToUpper(name))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(p.cmd.Short))
	usage := command.Usage(p.cmd)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fP%s\n", roff(p.path), roff(strings.TrimPrefix(usage, p.path)))
	b.WriteString(".SH DESCRIPTION\n")
	for n, part := range description(p.cmd) {
		switch {
		case part.verbatim:
			b.WriteString(".PP\n.EX\n" + lines(part.lines) + ".EE\n")
		case n > 0:
			b.WriteString(".PP\n" + lines(part.lines))
		default:
			b.WriteString(lines(part.lines))
		}
	}
	if len(p.forms) > 0 {
		b.WriteString(".PP\nAll its forms: " + roff(strings.Join(p.forms, ", ")) + "\n")
	}
	if list := options(p.cmd); len(list) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, o := range list {
			b.WriteString(".TP\n" + o.man() + "\n" + strings.Join(o.text(), ".br\n"))
		}
	}
	for _, g := range p.groups {
		b.WriteString(".SH " + strings.ToUpper(g.title) + "\n")
		for _, s := range g.subs {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fP(1)\n%s", roff(file(s.page)), lines([]string{s.short}))
		}
	}
	if p.cmd.HasParent() {
		b.WriteString(".SH SEE ALSO\n\\fBporthole\\fP(1)")
		if parent := p.cmd.Parent(); parent.HasParent() {
			fmt.Fprintf(&b, ", \\fB%s\\fP(1)", roff(file(parent.CommandPath())))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (o option) man() string {
	text := "\\fB\\-\\-" + roff(o.long) + "\\fP"
	if o.short != "" {
		text = "\\fB\\-" + roff(o.short) + "\\fP, " + text
	}
	if o.value != "" {
		text += " \\fI" + roff(o.value) + "\\fP"
	}
	return text
}

// text is what an option does, with its default, in lines.
func (o option) text() []string {
	list := slices.Clone(o.usage)
	if o.preset != "" {
		list[len(list)-1] += fmt.Sprintf(" (default %q)", o.preset)
	}
	for i, line := range list {
		list[i] = lines([]string{line})
	}
	return list
}

// lines are lines of text, none of which is taken for a request.
func lines(list []string) string {
	var b strings.Builder
	for _, line := range list {
		if strings.HasPrefix(line, ".") { // an apostrophe is written as a character of its own
			b.WriteString(`\&`)
		}
		b.WriteString(roff(line) + "\n")
	}
	return b.String()
}

// roff keeps text from being taken for markup, see groff_char(7).
func roff(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(text)
}
