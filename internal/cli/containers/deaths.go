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
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type deathsOptions struct {
	command.ListFlags
	client.DeathsOptions
	noTrunc bool
}

// NewDeaths returns "deaths".
func NewDeaths(a *command.App) *cobra.Command {
	o := deathsOptions{}
	cmd := &cobra.Command{
		Use:   "deaths [OPTIONS] [CONTAINER]",
		Short: "List why containers ended, also of those that were removed",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Container = args[0]
			}
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVar(&o.Execs, "execs", false, "Include the ends of exec processes")
	set.IntVar(&o.Run, "run", 0, "Only the run of this number")
	set.IntVarP(&o.Limit, "last", "n", 0, "Only the last ones")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	return command.Common(cmd, 0, "container deaths", "deaths")
}

func (o *deathsOptions) run(ctx context.Context, a *command.App) error {
	if o.Run < 0 || o.Limit < 0 {
		return errors.New("invalid argument: --run and --last must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	list, err := c.Deaths(ctx, o.DeathsOptions)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, list); done {
		return err
	}
	format := o.Or("")
	if format == formatter.TableFormatKey {
		format = `table {{.ContainerID}}\t{{.Name}}\t{{.Run}}\t{{.Finished}}\t{{.Ran}}\t{{.Code}}\t{{.Cause}}`
		if o.Execs {
			format += `\t{{.ExecID}}`
		}
	}
	rows := make([]formatter.SubContext, len(list))
	for n, d := range list {
		rows[n] = &deathRow{Death: d, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, deathHeader(), rows)
}

// deathRow is a death record as templates see it, with all of its fields besides.
type deathRow struct {
	formatter.HeaderContext
	api.Death
	short bool
}

func deathHeader() *deathRow {
	return &deathRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"ContainerID": "CONTAINER ID", "Name": "NAME", "Run": "RUN", "Finished": "ENDED", "Ran": "RAN", "Code": "CODE",
		"Cause": "CAUSE", "ExecID": "EXEC ID", "Image": "IMAGE", "Command": "COMMAND",
	}}}
}

// MarshalJSON is for the format "json".
func (r *deathRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *deathRow) shorten(id string) string {
	if r.short {
		return formatter.TruncateID(id)
	}
	return id
}

func (r *deathRow) ContainerID() string { return r.shorten(r.Death.ContainerID) }
func (r *deathRow) ExecID() string      { return r.shorten(r.Death.ExecID) }
func (r *deathRow) Name() string        { return r.Death.Name }
func (r *deathRow) Image() string       { return r.Death.Image }
func (r *deathRow) Run() string         { return strconv.Itoa(r.Death.Run) }
func (r *deathRow) Command() string     { return visible(strings.Join(r.Death.Command, " ")) }

// Finished is how long ago it ended.
func (r *deathRow) Finished() string {
	return units.HumanDuration(time.Since(r.FinishedAt)) + " ago"
}

// Ran is how long it ran.
func (r *deathRow) Ran() string {
	if r.StartedAt.IsZero() {
		return "-"
	}
	ran := r.Death.Ran
	if ran == 0 {
		ran = max(r.FinishedAt.Sub(r.StartedAt), 0)
	}
	return ran.Round(time.Millisecond).String()
}

// Code is the exit code, with a mark if it is a guess.
func (r *deathRow) Code() string {
	if !r.Observed {
		return "-"
	}
	return strconv.Itoa(r.ExitCode)
}

// causeWidth is what a table has room for.
const causeWidth = 70

// Cause is why it ended, in a line.
func (r *deathRow) Cause() string {
	text := visible(r.Text)
	note := ""
	if n := len(r.Unwatched); n > 0 && !r.Unwatched[n-1].Until.Before(r.FinishedAt) {
		note = " (not watched then)"
	}
	if r.short {
		return formatter.Ellipsis(text, causeWidth-len(note)) + note
	}
	return text + note
}
