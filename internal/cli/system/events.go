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

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type eventsOptions struct {
	since, until, format string
	filter               opts.FilterOpt
	after                uint64
	actor                bool
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
	set.Uint64Var(&o.after, "after", 0, "Resume behind the event of this number (.Porthole.Seq)")
	set.BoolVar(&o.actor, "actor", false, "Show each event's number and who asked for it")
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
	if o.after > 0 && o.since != "" {
		return errors.New("conflicting options: --since and --after")
	}
	return c.FollowEvents(ctx, client.EventsOptions{
		EventsListOptions: mobyclient.EventsListOptions{Since: o.since, Until: o.until, Filters: o.filter.Value()},
		After:             o.after,
	}, func(e api.Event) error { return writeEvent(a, e, tmpl, o.actor) })
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
	if strings.Contains(format, ".Porthole") {
		return tmpl, tmpl.Execute(io.Discard, &api.Event{})
	}
	return tmpl, tmpl.Execute(io.Discard, &events.Message{})
}

// fixedNano is RFC 3339 with all nine digits, so that columns line up.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

func writeEvent(a *command.App, e api.Event, tmpl *template.Template, actor bool) error {
	var line strings.Builder
	switch {
	case tmpl != nil && e.Porthole.Seq == 0: // of a Docker Engine
		if err := tmpl.Execute(&line, e.Message); err != nil {
			return err
		}
	case tmpl != nil:
		if err := tmpl.Execute(&line, e); err != nil {
			return err
		}
	default:
		var text strings.Builder
		formatEvent(&text, e.Message)
		if actor {
			text.WriteString("  " + formatOrigin(e.Porthole))
		}
		line.WriteString(a.Harmless(text.String()))
	}
	line.WriteByte('\n')
	_, err := io.WriteString(a.Out, line.String())
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

// formatOrigin is what --actor adds to an event: its number, who asked for it, and
// in which request.
func formatOrigin(o api.EventOrigin) string {
	text := fmt.Sprintf("[%d] by %s", o.Seq, command.Actor(o.Actor))
	if o.Request != "" {
		text += " (request " + o.Request + ")"
	}
	return text
}
