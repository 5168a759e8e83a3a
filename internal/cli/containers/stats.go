package containers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/moby/moby/api/types/events"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type statsOptions struct {
	command.ListFlags
	all, noStream, noTrunc bool
	wide, plot, build      bool
	since, until           string
}

// redrawEvery is how often the screen is drawn again; the daemon has news
// once per second.
const redrawEvery = 500 * time.Millisecond

// NewStats returns "stats".
func NewStats(a *command.App) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Display a live stream of container(s) resource usage statistics",
		Args:  command.MinArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	set.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	set.BoolVar(&o.wide, "wide", false, "Show kinds of memory, rates, and what was waited for")
	set.BoolVar(&o.plot, "plot", false, "Draw CPU, memory, I/O and network over time")
	set.BoolVar(&o.build, "build", false, "Show the steps of builds that run as well")
	set.StringVar(&o.since, "since", "", "Show what was sampled since then (e.g. \"10m\")")
	set.StringVar(&o.until, "until", "", "Show what was sampled before then")
	o.Add(set)
	return command.Common(cmd, 0, "container stats", "stats")
}

func (o *statsOptions) check() error {
	switch {
	case o.wide && (o.Format != "" || o.plot), o.plot && o.Format != "":
		return errors.New("conflicting options: cannot specify more than one of --format, --wide and --plot")
	case o.until != "" && o.since == "":
		return errors.New("--until needs --since")
	case o.build && o.since != "":
		return errors.New("conflicting options: steps of builds are not sampled, so --build excludes --since")
	case o.since != "" && (o.all || o.noStream):
		return errors.New("conflicting options: --since is about the past, and excludes --all and --no-stream")
	}
	return nil
}

func (o *statsOptions) run(ctx context.Context, a *command.App, names []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.since != "" {
		return o.runHistory(ctx, a, names)
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{client: c, stream: !o.noStream, recall: o.plot}
	defer func() { cancel(nil); w.running.Wait() }()
	if o.build && len(names) > 0 {
		return errors.New("conflicting options: cannot specify both --build and names")
	}
	if len(names) == 0 {
		w.build = o.build
		err = w.addAll(ctx, o.all, cancel)
	} else {
		err = w.addNamed(ctx, names)
	}
	if err != nil {
		return err
	}
	switch {
	case o.plot && o.noStream:
		return w.plotOnce(ctx, a)
	case o.plot:
		return w.plot(ctx, a, len(names) == 0)
	case !o.noStream:
		return o.draw(ctx, a, w, len(names) == 0)
	}
	entries := w.snapshot()
	if done, err := o.JSON(a.Out, entries); done {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	return o.write(a, a.Out, entries)
}

func (o *statsOptions) write(a *command.App, w io.Writer, entries []statsEntry) error {
	if o.wide {
		return o.writeAs(w, statsWide, entries)
	}
	format := o.Or(a.Config().StatsFormat)
	if format == formatter.TableFormatKey {
		format = statsTable
	}
	return writeEntries(w, format, entries, o.noTrunc)
}

// writeAs writes in the format that was asked for, or else as given.
func (o *statsOptions) writeAs(w io.Writer, format string, entries []statsEntry) error {
	return writeEntries(w, o.Or(format), entries, o.noTrunc)
}

func writeEntries(w io.Writer, format string, entries []statsEntry, long bool) error {
	rows := make([]formatter.SubContext, len(entries))
	for n, e := range entries {
		rows[n] = &ownRow{&statsRow{e: e, short: !long}}
	}
	return command.WriteRows(w, format, statsHeader(), rows)
}

// draw shows the table until ctx ends, or until none is left of the containers
// that were named.
func (o *statsOptions) draw(ctx context.Context, a *command.App, w *watch, follow bool) error {
	return w.frames(ctx, a, follow, func() (string, error) {
		var text bytes.Buffer
		err := o.write(a, &text, w.snapshot())
		return text.String(), err
	})
}

// frames draws now and then until ctx ends, or until no container is left and
// none is to be expected.
func (w *watch) frames(ctx context.Context, a *command.App, follow bool, draw func() (string, error)) error {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return endOfStats(ctx)
		case <-tick.C:
		}
		if !follow && len(w.snapshot()) == 0 {
			_, err := io.WriteString(a.Out, home+clearBelow)
			return err
		}
		text, err := draw()
		if err != nil {
			return err
		}
		if err := drawFrame(a.Out, text); err != nil {
			return err
		}
	}
}

// drawFrame replaces what is on the screen by one write, so that it does not
// flicker; each line clears what a longer one has left behind.
func drawFrame(w io.Writer, text string) error {
	_, err := io.WriteString(w, home+strings.ReplaceAll(text, "\n", clearLine+"\n")+clearLine+"\n"+clearBelow)
	return err
}

// Control sequences of terminals (ECMA-48).
const (
	home       = "\033[H"
	clearLine  = "\033[K"
	clearBelow = "\033[J"
)

// endOfStats takes the end of the event stream for the end of the daemon,
// which is no error of this command.
func endOfStats(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// watch is the set of containers whose statistics are shown.
type watch struct {
	client *client.Client
	stream bool
	build  bool // steps of builds as well
	recall bool // ask for what was sampled before as well

	running sync.WaitGroup

	// mu guards sources.
	mu      sync.Mutex
	sources []*source
}

// add begins to collect from a container unless that goes on already. first
// is done when there is something to show.
func (w *watch) add(ctx context.Context, name string, first *sync.WaitGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sources {
		if s.container == name {
			return
		}
	}
	s := &source{container: name, entry: statsEntry{Container: name}}
	w.sources = append(w.sources, s)
	first.Add(1)
	w.running.Go(func() {
		if w.recall {
			s.recall(ctx, w.client)
		}
		s.collect(ctx, w.client, w.stream, sync.OnceFunc(first.Done))
	})
}

func (w *watch) remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, s := range w.sources {
		if s.container == id {
			w.sources = append(w.sources[:n:n], w.sources[n+1:]...)
			return
		}
	}
}

func (w *watch) snapshot() []statsEntry {
	w.mu.Lock()
	defer w.mu.Unlock()
	entries := make([]statsEntry, len(w.sources))
	for n, s := range w.sources {
		entries[n] = s.get()
	}
	return entries
}

// addNamed watches the containers that were named, all of which must be
// there.
func (w *watch) addNamed(ctx context.Context, names []string) error {
	var first sync.WaitGroup
	for _, name := range names {
		w.add(ctx, name, &first)
	}
	first.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, s := range w.sources {
		if err := s.failure(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// addAll watches the containers there are, and those that come. Events are
// asked for first, so that none is missed between.
func (w *watch) addAll(ctx context.Context, all bool, cancel context.CancelCauseFunc) error {
	if w.stream {
		stream := w.client.Events(ctx, mobyclient.EventsListOptions{
			Filters: mobyclient.Filters{}.Add("type", w.types()...),
		})
		w.running.Go(func() { w.follow(ctx, stream, all, cancel) })
	}
	list, err := w.client.ContainerList(ctx, mobyclient.ContainerListOptions{All: all})
	if err != nil {
		return err
	}
	var first sync.WaitGroup
	for _, ctr := range list.Items {
		w.add(ctx, ctr.ID, &first)
	}
	if w.build {
		steps, err := w.client.BuildSteps(ctx, false)
		if err != nil {
			return err
		}
		for _, s := range steps {
			w.add(ctx, s.Process, &first)
		}
	}
	first.Wait()
	return nil
}

// types are those of the events that tell of what comes and goes.
func (w *watch) types() []string {
	types := []string{string(events.ContainerEventType)}
	if w.build {
		types = append(types, string(events.BuilderEventType))
	}
	return types
}

func (w *watch) follow(ctx context.Context, stream mobyclient.EventsResult, all bool, cancel context.CancelCauseFunc) {
	var first sync.WaitGroup
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-stream.Err:
			cancel(err)
			return
		case e := <-stream.Messages:
			switch {
			case e.Type == events.BuilderEventType:
				w.followStep(ctx, e, &first)
			case e.Action == events.ActionStart, e.Action == events.ActionCreate && all:
				w.add(ctx, e.Actor.ID, &first)
			case e.Action == events.ActionDestroy, e.Action == events.ActionDie && !all:
				w.remove(e.Actor.ID)
			}
		}
	}
}

// followStep is follow for an event about builds.
func (w *watch) followStep(ctx context.Context, e events.Message, first *sync.WaitGroup) {
	switch e.Action {
	case "step_start":
		w.add(ctx, e.Actor.ID, first)
	case "step_die":
		w.remove(e.Actor.ID)
	}
}
