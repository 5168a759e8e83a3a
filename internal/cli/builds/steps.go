package builds

import (
	"context"
	"fmt"
	"strconv"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type stepsOptions struct {
	command.ListFlags
	which
	all, noTrunc bool
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
	steps := []api.BuildStep{}
	for _, s := range b.Steps {
		if s.Number > 0 || o.all {
			steps = append(steps, s)
		}
	}
	if done, err := o.JSON(a.Out, steps); done {
		return err
	}
	format := o.Or("")
	if format == formatter.TableFormatKey {
		format = `table {{.Step}}\t{{.Line}}\t{{.Status}}\t{{.Duration}}\t{{.ID}}\t{{.Instruction}}`
	}
	rows := make([]formatter.SubContext, len(steps))
	for n, s := range steps {
		rows[n] = &stepRow{BuildStep: s, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, stepHeader(), rows)
}

// stepRow is a step as templates see it, with all of its fields besides.
type stepRow struct {
	formatter.HeaderContext
	api.BuildStep
	short bool
}

func stepHeader() *stepRow {
	return &stepRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Step": "STEP", "Line": "LINE", "Status": "STATUS", "Duration": "DURATION", "ID": "STEP ID", "Instruction": "INSTRUCTION",
		"Name": "NAME",
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
const instructionWidth = 80

// Instruction is what stands in the Dockerfile, or else the step's name.
func (r *stepRow) Instruction() string {
	text := command.Visible(title(&r.BuildStep))
	if r.short {
		return formatter.Ellipsis(text, instructionWidth)
	}
	return text
}

func title(s *api.BuildStep) string {
	if s.Instruction != "" {
		return s.Instruction
	}
	return s.Name
}
