package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type whyOptions struct {
	command.ListFlags
	client.WhyOptions
}

// NewWhy returns "why".
func NewWhy(a *command.App) *cobra.Command {
	o := whyOptions{}
	cmd := &cobra.Command{
		Use:   "why [OPTIONS] CONTAINER",
		Short: "Tell why a container ended, does not start, or what it waits for",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.IntVar(&o.Run, "run", 0, "The run of this number, in place of the last")
	set.BoolVar(&o.History, "history", false, "List all runs that are known")
	o.AddJSON(set)
	set.Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
	return command.Common(cmd, 0, "container why", "why")
}

func (o *whyOptions) run(ctx context.Context, a *command.App, name string) error {
	if o.Run < 0 {
		return errors.New("invalid argument: --run must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	w, err := c.Why(ctx, name, o.WhyOptions)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, w); done {
		return err
	}
	_, err = io.WriteString(a.Out, whyText(&w))
	return err
}

// whyText is the answer for people: the cause first, what it is known from below.
func whyText(w *api.Why) string {
	var b strings.Builder
	fmt.Fprintln(&b, visible(w.Summary))
	for _, v := range w.Verdicts {
		fmt.Fprintf(&b, "\n%s (%s): %s\n", v.Cause, v.Confidence, visible(v.Text))
		for _, line := range v.Evidence {
			fmt.Fprintf(&b, "  - %s\n", visible(line))
		}
		for _, line := range v.Next {
			fmt.Fprintf(&b, "  try: %s\n", visible(line))
		}
	}
	section(&b, "Note", w.Notes)
	section(&b, "Not known", w.Unknown)
	if len(w.LastWords) > 0 {
		b.WriteString("\nLast words:\n")
		for _, l := range w.LastWords {
			text := l.Text
			if text == "" {
				text = string(l.Bytes)
			}
			fmt.Fprintf(&b, "  %s  %s\n", l.Time.Local().Format(time.TimeOnly), visible(text))
		}
	}
	if len(w.History) > 0 {
		b.WriteString("\nRuns:\n")
		for _, r := range w.History {
			fmt.Fprintf(&b, "  %s\n", visible(whyRun(&r)))
		}
	}
	return b.String()
}

func section(b *strings.Builder, title string, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(b, "\n%s: %s\n", title, visible(line))
	}
}

// whyRun is a run in one line.
func whyRun(r *api.WhyRun) string {
	words := []string{strconv.Itoa(r.Run)}
	if r.FinishedAt.IsZero() {
		words = append(words, "running")
	} else {
		words = append(words, units.HumanDuration(time.Since(r.FinishedAt))+" ago")
		if !r.StartedAt.IsZero() {
			words = append(words, "after "+r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond).String())
		}
	}
	if r.ExitCode != nil {
		words = append(words, "code "+strconv.Itoa(*r.ExitCode))
	}
	words = append(words, r.Text)
	if r.LastLine != "" {
		words = append(words, strconv.Quote(r.LastLine))
	}
	return strings.Join(words, "  ")
}

// visible makes what comes from a container harmless for a terminal.
func visible(s string) string { return command.Visible(s) }
