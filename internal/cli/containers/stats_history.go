package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// history is what is kept of one container.
type history struct {
	name, id string
	samples  []*api.Sample
}

// runHistory shows what was sampled in a time that has passed.
func (o *statsOptions) runHistory(ctx context.Context, a *command.App, names []string) error {
	if len(names) == 0 {
		return errors.New("name the containers whose past is to be shown")
	}
	now := time.Now()
	from, err := moment("since", o.since, now)
	if err != nil {
		return err
	}
	to, err := moment("until", o.until, now)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	var list []*history
	for _, name := range names {
		h, err := readHistory(ctx, c, name, client.SamplesOptions{Since: from, Until: to})
		if err != nil {
			return err
		}
		list = append(list, h)
	}
	if o.plot {
		if to.IsZero() {
			to = now
		}
		return printPlots(a, list, from, to)
	}
	var entries []statsEntry
	for _, h := range list {
		for _, s := range h.samples {
			entries = append(entries, sampleEntry(h.name, h.id, s))
		}
	}
	if done, err := o.JSON(a.Out, entries); done {
		return err
	}
	return o.writeAs(a.Out, statsHistory, entries)
}

// readHistory also finds a container that does not run any more.
func readHistory(ctx context.Context, c *client.Client, name string, o client.SamplesOptions) (*history, error) {
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	h := &history{name: info.Container.Name, id: info.Container.ID}
	if h.name != "" && h.name[0] == '/' {
		h.name = h.name[1:]
	}
	err = c.Samples(ctx, h.id, o, func(s *api.Sample) error {
		h.samples = append(h.samples, s)
		return nil
	})
	return h, err
}

// moment reads a time: "10m" ago, seconds since 1970, or a date. Empty is the
// zero time.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.UnixMilli(int64(seconds * 1000)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`invalid value %q for "--%s": want a time such as "10m" ago or "2013-01-02T13:23:37"`, text, flag)
}
