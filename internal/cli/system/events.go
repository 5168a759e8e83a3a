package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/docker/cli/opts"
	"github.com/docker/cli/templates"
	"github.com/moby/moby/api/types/events"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type eventsOptions struct {
	since, until, format string
	filter               opts.FilterOpt
}

// NewEvents returns "events".
func NewEvents(a *command.App) *cobra.Command {
	o := eventsOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Get real time events from the server",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVar(&o.since, "since", "", "Show all events created since timestamp")
	set.StringVar(&o.until, "until", "", "Stream events until this timestamp")
	set.VarP(&o.filter, "filter", "f", "Filter output based on conditions provided")
	set.StringVar(&o.format, "format", "", command.InspectFormatHelp)
	return command.Common(cmd, 0, "system events", "events")
}

func (o *eventsOptions) run(ctx context.Context, a *command.App) error {
	tmpl, err := eventTemplate(o.format)
	if err != nil {
		return &command.StatusError{Code: 64, Text: "Error parsing format: " + err.Error()}
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.Events(ctx, mobyclient.EventsListOptions{Since: o.since, Until: o.until, Filters: o.filter.Value()})
	for {
		select {
		case e := <-stream.Messages:
			if err := writeEvent(a.Out, e, tmpl); err != nil {
				return err
			}
		case err := <-stream.Err:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// eventTemplate returns nil for the usual form. A template that asks for a
// field that events do not have is refused here, not at the first event.
func eventTemplate(format string) (*template.Template, error) {
	switch format {
	case "":
		return nil, nil
	case "json":
		format = "{{json .}}"
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return nil, err
	}
	return tmpl, tmpl.Execute(io.Discard, &events.Message{})
}

// fixedNano is RFC 3339 with all nine digits, so that columns line up.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

func writeEvent(w io.Writer, e events.Message, tmpl *template.Template) error {
	var line strings.Builder
	if tmpl != nil {
		if err := tmpl.Execute(&line, e); err != nil {
			return err
		}
	} else {
		formatEvent(&line, e)
	}
	line.WriteByte('\n')
	_, err := io.WriteString(w, line.String())
	return err
}

func formatEvent(b *strings.Builder, e events.Message) {
	switch {
	case e.TimeNano != 0:
		b.WriteString(time.Unix(0, e.TimeNano).Format(fixedNano) + " ")
	case e.Time != 0:
		b.WriteString(time.Unix(e.Time, 0).Format(fixedNano) + " ")
	}
	fmt.Fprintf(b, "%s %s %s", e.Type, e.Action, e.Actor.ID)
	if len(e.Actor.Attributes) == 0 {
		return
	}
	var attributes []string
	for _, key := range slices.Sorted(maps.Keys(e.Actor.Attributes)) {
		attributes = append(attributes, key+"="+e.Actor.Attributes[key])
	}
	b.WriteString(" (" + strings.Join(attributes, ", ") + ")")
}
