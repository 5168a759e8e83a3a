package containers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type healthOptions struct {
	command.ListFlags
	last    int
	noTrunc bool
}

// NewHealth returns "health".
func NewHealth(a *command.App) *cobra.Command {
	o := healthOptions{}
	cmd := &cobra.Command{
		Use:   "health [OPTIONS] CONTAINER",
		Short: "List what a container's health checks have said",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.IntVarP(&o.last, "last", "n", 0, "Only the last ones")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	return command.Common(cmd, 0, "container health", "health")
}

func (o *healthOptions) run(ctx context.Context, a *command.App, name string) error {
	if o.last < 0 {
		return errors.New("invalid argument: --last must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	h, err := c.Health(ctx, name)
	if err != nil {
		return err
	}
	if o.last > 0 {
		h.Results = h.Results[max(0, len(h.Results)-o.last):]
	}
	if done, err := o.JSON(a.Out, h); done {
		return err
	}
	format := o.Or("")
	if format == formatter.TableFormatKey {
		format = `table {{.Run}}\t{{.Started}}\t{{.Took}}\t{{.Code}}\t{{.Status}}\t{{.Output}}`
	}
	rows := make([]formatter.SubContext, len(h.Results))
	for n, r := range h.Results {
		rows[n] = &healthRow{HealthResult: r, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, healthHeader(), rows)
}

// healthRow is a result as templates see it, with all of its fields besides.
type healthRow struct {
	formatter.HeaderContext
	api.HealthResult
	short bool
}

func healthHeader() *healthRow {
	return &healthRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Run": "RUN", "Started": "STARTED", "Took": "TOOK", "Code": "CODE", "Status": "STATUS", "Output": "OUTPUT",
	}}}
}

// MarshalJSON is for the format "json".
func (r *healthRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *healthRow) Run() string     { return strconv.Itoa(r.HealthResult.Run) }
func (r *healthRow) Started() string { return units.HumanDuration(time.Since(r.Start)) + " ago" }
func (r *healthRow) Took() string    { return r.End.Sub(r.Start).Round(time.Millisecond).String() }
func (r *healthRow) Status() string  { return r.HealthResult.Status }

// Code is the exit code of the check, or why there is none.
func (r *healthRow) Code() string {
	if r.TimedOut {
		return "timeout"
	}
	return strconv.Itoa(r.ExitCode)
}

// Output is what the check has said, on one line.
func (r *healthRow) Output() string {
	text := visible(strings.Join(strings.Fields(r.HealthResult.Output), " "))
	if r.short {
		return formatter.Ellipsis(text, causeWidth)
	}
	return text
}
