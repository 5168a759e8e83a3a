package containers

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type timelineOptions struct {
	command.ListFlags
	client.TimelineOptions
	since, until string
}

// timelineSources are where entries come from.
var timelineSources = []string{api.TimelineConnection, api.TimelineDeath, api.TimelineEvent, api.TimelineHealth, api.TimelineLog, api.TimelineProcess, api.TimelineSample}

// NewTimeline returns "timeline".
func NewTimeline(a *command.App) *cobra.Command {
	o := timelineOptions{}
	cmd := &cobra.Command{
		Use:   "timeline [OPTIONS] CONTAINER",
		Short: "Show events, output, processes, connections, figures and ends of a container in one order",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVar(&o.Around, "around", "", `Only what is around the last event of this kind (e.g. "die", "oom")`)
	set.DurationVar(&o.Window, "window", 30*time.Second, "How much before and after that event")
	set.StringVar(&o.since, "since", "", `Show what happened since then (e.g. "10m", or a timestamp)`)
	set.StringVar(&o.until, "until", "", "Show what happened until then")
	set.IntVarP(&o.Limit, "last", "n", 1000, "Only the last entries")
	set.StringSliceVar(&o.Only, "only", nil, `Only entries of these sources or kinds (e.g. "process,connection", "exit,signal")`)
	o.AddJSON(set)
	set.Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(timelineSources, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("around", cobra.FixedCompletions([]string{"die", "health_status", "kill", "oom", "restart", "start", "stop"}, cobra.ShellCompDirectiveNoFileComp))
	return command.Common(cmd, 0, "container timeline", "timeline")
}

func (o *timelineOptions) run(ctx context.Context, a *command.App, name string) error {
	switch {
	case o.Around != "" && (o.since != "" || o.until != ""):
		return errors.New("conflicting options: --around cannot be used with --since or --until")
	case o.Limit < 1:
		return errors.New("invalid argument: --last must be at least 1")
	case o.Window < time.Second:
		return errors.New("invalid argument: --window must be at least 1s")
	}
	now := time.Now()
	var err error
	if o.Since, err = moment("since", o.since, now); err != nil {
		return err
	}
	if o.Until, err = moment("until", o.until, now); err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	t, err := c.Timeline(ctx, name, o.TimelineOptions)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, t); done {
		return err
	}
	return writeTimeline(a, &t)
}

func writeTimeline(a *command.App, t *api.Timeline) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	if t.Omitted > 0 {
		_, _ = fmt.Fprintf(a.Out, "%d earlier entries are not shown (--last).\n", t.Omitted)
	}
	day := ""
	for _, e := range t.Entries {
		at := e.Time.Local()
		if d := at.Format(time.DateOnly); d != day {
			_ = w.Flush()
			_, _ = fmt.Fprintln(a.Out, d)
			day = d
		}
		mark := " "
		if !t.Around.IsZero() && e.Source == api.TimelineEvent && e.Time.Equal(t.Around) {
			mark = ">"
		}
		text := command.Visible(e.Text)
		if e.By != nil && e.By.Known() {
			if text != "" {
				text += "  "
			}
			text += "by " + command.Visible(command.Actor(*e.By))
		}
		_, _ = fmt.Fprintf(w, "%s %s\t%s\t%s\t%s\n", mark, at.Format("15:04:05.000"), e.Source, command.Visible(e.Kind), text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	tellRest(a, t.Unknown)
	return nil
}
