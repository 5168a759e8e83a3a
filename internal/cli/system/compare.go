package system

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type compareOptions struct {
	command.ListFlags
	noTrunc bool
}

// NewCompare returns "compare".
func NewCompare(a *command.App) *cobra.Command {
	o := compareOptions{}
	cmd := &cobra.Command{
		Use:   "compare [OPTIONS] A B",
		Short: "Tell in what two containers, or images, differ, what probably matters first",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0], args[1])
		},
		ValidArgsFunction:     a.CompleteAll(),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.AddJSON(cmd.Flags())
	cmd.Flags().Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
	return cmd
}

func (o *compareOptions) run(ctx context.Context, app *command.App, a, b string) error {
	c, err := app.Client()
	if err != nil {
		return err
	}
	found, err := c.Compare(ctx, a, b)
	if err != nil {
		return err
	}
	if done, err := o.JSON(app.Out, found); done {
		return err
	}
	if len(found.Differences) == 0 {
		_, _ = fmt.Fprintf(app.Out, "No difference was found in %d facts.\n", found.Same)
	} else {
		w := tabwriter.NewWriter(app.Out, 0, 0, 3, ' ', 0)
		_, _ = fmt.Fprintf(w, "WHAT\t\t%s\t%s\n", compared(&found.A), compared(&found.B))
		for _, d := range found.Differences {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Group, command.Visible(d.Key), o.value(d.A), o.value(d.B))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(app.Out, "%d other facts are the same.\n", found.Same)
	}
	for _, line := range found.Unknown {
		_, _ = fmt.Fprintln(app.Out, "Not known:", command.Visible(line))
	}
	return nil
}

func compared(x *api.Compared) string {
	text := command.Visible(x.Name)
	if x.Status != "" {
		text += " (" + x.Status + ")"
	}
	return text
}

// valueWidth is what a column has room for.
const valueWidth = 60

func (o *compareOptions) value(v *string) string {
	switch {
	case v == nil:
		return "-"
	case *v == "":
		return `""`
	}
	text := command.Visible(*v)
	if !o.noTrunc {
		text = formatter.Ellipsis(text, valueWidth)
	}
	return text
}
