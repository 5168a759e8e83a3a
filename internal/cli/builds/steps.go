package builds

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type stepsOptions struct {
	command.ListFlags
	which
	all, noTrunc, explain bool
}

func newSteps(a *command.App) *cobra.Command {
	o := stepsOptions{}
	cmd := &cobra.Command{
		Use:   "steps [OPTIONS] [BUILD]",
		Short: "List the steps of a build: where they stand, and what became of them",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := o.of(args)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), a, ref)
		},
		ValidArgsFunction:     a.CompleteBuilds(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	o.add(cmd)
	set.BoolVarP(&o.all, "all", "a", false, "Show also what the builder does by itself")
	set.BoolVar(&o.explain, "explain", false, "Tell why each step was done or not, compared with the build before")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	return cmd
}

func (o *stepsOptions) run(ctx context.Context, a *command.App, ref string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	b, err := c.Build(ctx, ref)
	if err != nil {
		return err
	}
	return o.write(a.Out, &b)
}

func (o *stepsOptions) write(out io.Writer, b *api.Build) error {
	steps := []api.BuildStep{}
	for _, s := range b.Steps {
		if s.Number > 0 || o.all {
			steps = append(steps, s)
		}
	}
	if done, err := o.JSON(out, steps); done {
		return err
	}
	format := o.Or("")
	switch {
	case format == formatter.TableFormatKey && o.explain:
		format = `table {{.Step}}\t{{.Line}}\t{{.Status}}\t{{.Instruction}}\t{{.Why}}`
		fmt.Fprintln(out, compared(b))
	case format == formatter.TableFormatKey:
		format = `table {{.Step}}\t{{.Line}}\t{{.Status}}\t{{.Duration}}\t{{.ID}}\t{{.Instruction}}`
	}
	rows := make([]formatter.SubContext, len(steps))
	for n, s := range steps {
		rows[n] = &stepRow{BuildStep: s, short: !o.noTrunc, explain: o.explain, build: b.State}
	}
	return command.WriteRows(out, format, stepHeader(), rows)
}

// stepRow is a step as templates see it, with all of its fields besides.
type stepRow struct {
	formatter.HeaderContext
	api.BuildStep
	short, explain bool
	build          string // the state of its build
}

func stepHeader() *stepRow {
	return &stepRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Step": "STEP", "Line": "LINE", "Status": "STATUS", "Duration": "DURATION", "ID": "STEP ID", "Instruction": "INSTRUCTION",
		"Name": "NAME", "Why": "WHY",
	}}}
}

// MarshalJSON is for the format "json".
func (r *stepRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *stepRow) Step() string {
	if r.Number == 0 {
		return "-"
	}
	return strconv.Itoa(r.Number)
}

// Line is where the instruction stands.
func (r *stepRow) Line() string { return lines(&r.BuildStep) }

func lines(s *api.BuildStep) string {
	switch {
	case s.First == 0:
		return "-"
	case s.Last > s.First:
		return fmt.Sprintf("%d-%d", s.First, s.Last)
	}
	return strconv.Itoa(s.First)
}

// Status is what became of it, with its code if that says something.
func (r *stepRow) Status() string {
	switch {
	case r.OOMKilled:
		return fmt.Sprintf("%s (%d, out of memory)", r.State, r.ExitCode)
	case r.Ended && r.ExitCode != 0:
		return fmt.Sprintf("%s (%d)", r.State, r.ExitCode)
	}
	return r.State
}

func (r *stepRow) Duration() string {
	if r.State == api.StepCached {
		return "-"
	}
	return duration(r.Took())
}

// ID is for step:ID, and if it ran a process for logs and why.
func (r *stepRow) ID() string {
	switch {
	case r.BuildStep.ID == "":
		return "-"
	case r.short:
		return shortID(r.BuildStep.ID)
	}
	return r.BuildStep.ID
}

// instructionWidth is what a table has room for.
const (
	instructionWidth = 80
	besideWhyWidth   = 40
)

// Instruction is what stands in the Dockerfile, or else the step's name.
func (r *stepRow) Instruction() string {
	text := command.Visible(title(&r.BuildStep))
	switch {
	case r.short && r.explain:
		return formatter.Ellipsis(text, besideWhyWidth)
	case r.short:
		return formatter.Ellipsis(text, instructionWidth)
	}
	return text
}

// Why is why it was done, or was not.
func (r *stepRow) Why() string {
	var texts []string
	for _, c := range r.Causes {
		texts = append(texts, command.Visible(c.Text))
	}
	switch {
	case len(texts) > 0:
		return strings.Join(texts, "; ")
	case r.Number == 0:
		return "-"
	case r.build == api.BuildRunning:
		return "not known yet: the build is running"
	}
	return "not recorded"
}

// compared tells which build the steps of one are compared with.
func compared(b *api.Build) string {
	switch {
	case b.Before != "":
		return fmt.Sprintf("Build %s compared with %s, the one before of the same Dockerfile, target, tags and platforms.", shortID(b.ID), shortID(b.Before))
	case b.State == api.BuildRunning:
		return fmt.Sprintf("Build %s is running.", shortID(b.ID))
	}
	return fmt.Sprintf("Build %s: none before it of the same Dockerfile, target, tags and platforms is recorded.", shortID(b.ID))
}

// Explain prints why the steps of a build were done or not.
func Explain(ctx context.Context, a *command.App, out io.Writer, id string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	b, err := c.Build(ctx, id)
	if err != nil {
		return fmt.Errorf("explain the build: %w", err)
	}
	return (&stepsOptions{explain: true}).write(out, &b)
}

func title(s *api.BuildStep) string {
	if s.Instruction != "" {
		return s.Instruction
	}
	return s.Name
}
