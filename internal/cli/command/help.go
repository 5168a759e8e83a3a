package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Annotations of a command that its help uses.
const (
	// annotationTop is the command's place among the common commands.
	annotationTop = "category-top"
	// annotationAliases lists all names of the command in full.
	annotationAliases = "aliases"
)

// Top marks cmd as one of the common commands, n-th of them, for a verb that
// has no other form.
func Top(cmd *cobra.Command, place int) *cobra.Command {
	cmd.Annotations = map[string]string{annotationTop: fmt.Sprintf("%02d", place)}
	return cmd
}

// Common marks cmd as one of the common commands, n-th of them, and names all
// its forms ("container run", "run"). A place of 0 leaves it among the rest.
func Common(cmd *cobra.Command, place int, names ...string) *cobra.Command {
	cmd.Annotations = map[string]string{}
	if place > 0 {
		cmd.Annotations[annotationTop] = fmt.Sprintf("%02d", place)
	}
	full := make([]string, len(names))
	for n, name := range names {
		full[n] = "porthole " + name
	}
	cmd.Annotations[annotationAliases] = strings.Join(full, ", ")
	return cmd
}

// Also returns cmd in its place in a group: under another name and with the
// given aliases.
func Also(cmd *cobra.Command, use string, aliases ...string) *cobra.Command {
	if use != "" {
		cmd.Use = use
	}
	cmd.Aliases = aliases
	return cmd
}

// Group returns a command that only holds others.
func Group(a *App, name, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use: name, Short: short, Args: NoArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return WriteHelp(a.Err, a, cmd)
		},
	}
	group.AddCommand(commands...)
	return group
}

// WriteHelp writes the help of cmd to w.
func WriteHelp(w io.Writer, a *App, cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:  " + Usage(cmd))
	b.WriteString("\n\n" + strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short)))
	if names := Names(cmd); len(names) > 0 {
		section(&b, "Aliases", "  "+strings.Join(names, ", "))
	}
	section(&b, "Examples", cmd.Example)
	flags := strings.TrimRight(cmd.Flags().FlagUsagesWrapped(a.Width(80)-1), " \n")
	if cmd.HasParent() && cmd.HasAvailableFlags() {
		section(&b, "Options", flags)
	}
	for _, part := range Parts(cmd) {
		var lines []string
		for _, sub := range part.Commands {
			lines = append(lines, fmt.Sprintf("  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short))
		}
		section(&b, part.Title, strings.Join(lines, "\n"))
	}
	if !cmd.HasParent() {
		section(&b, "Global Options", flags)
	}
	if cmd.HasSubCommands() {
		b.WriteString("\n\nRun '" + cmd.CommandPath() + " COMMAND --help' for more information on a command.")
	}
	b.WriteString("\n")
	if !cmd.HasParent() {
		b.WriteString("\nEvery daemon that speaks the Docker Engine API will do: see --host.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Usage is how cmd is written, with its arguments.
func Usage(cmd *cobra.Command) string {
	if !cmd.HasSubCommands() || strings.Contains(cmd.Use, " ") {
		return cmd.UseLine()
	}
	line := cmd.CommandPath()
	if cmd.HasAvailableFlags() {
		line += " [OPTIONS]"
	}
	return line + " COMMAND"
}

func section(b *strings.Builder, title, text string) {
	if text != "" {
		b.WriteString("\n\n" + title + ":\n" + text)
	}
}

// Names are all forms of cmd in full, if it has several.
func Names(cmd *cobra.Command) []string {
	if line := cmd.Annotations[annotationAliases]; line != "" {
		return strings.Split(line, ", ")
	}
	if len(cmd.Aliases) == 0 {
		return nil
	}
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().CommandPath() + " "
	}
	names := []string{cmd.CommandPath()}
	for _, alias := range cmd.Aliases {
		names = append(names, parent+alias)
	}
	return names
}

// Part is a kind of the commands below another.
type Part struct {
	Title    string
	Commands []*cobra.Command
}

// Parts are the commands below cmd: at the root in three parts.
func Parts(cmd *cobra.Command) []Part {
	var top, groups, rest []*cobra.Command
	for _, sub := range cmd.Commands() {
		switch {
		case !sub.IsAvailableCommand():
		case !cmd.HasParent() && sub.Annotations[annotationTop] != "":
			top = append(top, sub)
		case sub.HasSubCommands():
			groups = append(groups, sub)
		default:
			rest = append(rest, sub)
		}
	}
	slices.SortStableFunc(top, func(x, y *cobra.Command) int {
		return cmp.Compare(x.Annotations[annotationTop], y.Annotations[annotationTop])
	})
	return []Part{{"Common Commands", top}, {"Management Commands", groups}, {"Commands", rest}}
}
