package manual

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// Markdown returns the pages by their file names; README.md is the program's own.
func Markdown(root *cobra.Command) map[string][]byte {
	pages := map[string][]byte{}
	for _, p := range read(root).pages {
		pages[markdownFile(p.path)] = []byte(p.markdown())
	}
	return pages
}

func markdownFile(path string) string {
	if !strings.Contains(path, " ") {
		return "README.md"
	}
	return file(path) + ".md"
}

func (p *page) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Made from the command line by go generate ./internal/cli/manual. -->\n\n# %s\n\n", p.path)
	fmt.Fprintf(&b, "```text\n%s\n```\n", command.Usage(p.cmd))
	for _, part := range description(p.cmd) {
		if part.verbatim {
			fmt.Fprintf(&b, "\n```text\n%s\n```\n", strings.Join(part.lines, "\n"))
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", escapeMarkdown(strings.Join(part.lines, "\n")))
	}
	if len(p.forms) > 0 {
		fmt.Fprintf(&b, "\nAll its forms: `%s`\n", strings.Join(p.forms, "`, `"))
	}
	if list := options(p.cmd); len(list) > 0 {
		b.WriteString("\n| option | default | |\n| --- | --- | --- |\n")
		for _, o := range list {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", o.markdown(), code(o.preset), cell(o.usage...))
		}
	}
	for _, g := range p.groups {
		fmt.Fprintf(&b, "\n## %s\n\n| command | |\n| --- | --- |\n", g.title)
		for _, s := range g.subs {
			fmt.Fprintf(&b, "| [%s](%s) | %s |\n", s.name, markdownFile(s.page), cell(s.short))
		}
	}
	return b.String()
}

func (o option) markdown() string {
	text := "--" + o.long
	if o.short != "" {
		text = "-" + o.short + ", " + text
	}
	if o.value != "" {
		text += " " + o.value
	}
	return code(text)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

func cell(lines ...string) string {
	return strings.ReplaceAll(strings.ReplaceAll(escapeMarkdown(strings.Join(lines, "\n")), "\n", "<br>"), "|", `\|`)
}

// escapeMarkdown keeps text from being taken for markup.
func escapeMarkdown(text string) string {
	return strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`, "[", `\[`).Replace(text)
}
