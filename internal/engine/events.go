package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/problem"
)

var eventKeys = []string{
	"type", "event", "container", "image", "volume", "network", "daemon", "plugin", "service", "node", "secret", "config", "scope", "label",
}

// nameKeys are the filters that match the beginning of an actor's id or name, whatever the type of the event.
var nameKeys = []string{"container", "volume", "network", "daemon", "plugin", "service", "node", "secret", "config"}

// Events calls fn for past events since o.Since, or after o.After, then for each new one until o.Until or the end of ctx. It returns nil
// at Until and when the daemon ends. Past events survive restarts of the daemon.
func (e *Engine) Events(ctx context.Context, o EventsOptions, fn EventFunc) error {
	if err := o.Filters.Check(eventKeys...); err != nil {
		return err
	}
	if !o.Since.IsZero() && !o.Until.IsZero() && o.Until.Before(o.Since) {
		return invalid("`since` time (%s) cannot be after `until` time (%s)", o.Since.Format(time.RFC3339Nano), o.Until.Format(time.RFC3339Nano))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.life, func() { cancel(errShutdown) })()
	read := event.ReadOptions{Since: o.Since, Until: o.Until, After: o.After}
	err := e.deps.Events.Read(ctx, read, o.Opened, func(r event.Record) error {
		if !o.Filters.matchEvent(r.Message) {
			return nil
		}
		return fn(r)
	})
	switch {
	case errors.Is(err, errShutdown) || errors.Is(err, os.ErrClosed):
		return nil
	case errors.Is(err, event.ErrAhead), errors.Is(err, event.ErrLagged):
		return problem.WithHint(invalid("%v", err), "porthole events --since 1h")
	}
	return err
}

func (f Filters) matchEvent(m events.Message) bool {
	if !f.Exact("type", string(m.Type)) || !f.Exact("scope", m.Scope) || !f.matchAction(string(m.Action)) ||
		!f.Labels("label", m.Actor.Attributes) || !f.matchEventImage(m) {
		return false
	}
	for _, key := range nameKeys {
		if !f.Prefix(key, m.Actor.ID) && !f.Prefix(key, m.Actor.Attributes["name"]) {
			return false
		}
	}
	return true
}

// matchAction compares whole actions. Those that carry a command or a result behind a colon are named without it, and
// then, as with Docker, all values of the filter are prefixes.
func (f Filters) matchAction(action string) bool {
	for _, open := range []events.Action{events.ActionExecCreate, events.ActionExecStart, events.ActionHealthStatus} {
		if slices.Contains(f["event"], string(open)) {
			return f.Prefix("event", action)
		}
	}
	return f.Exact("event", action)
}

// matchEventImage compares an image's id and name, with and without its tag; of events about containers, their image's.
func (f Filters) matchEventImage(m events.Message) bool {
	if !f.Has("image") {
		return true
	}
	name := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	for _, s := range []string{m.Actor.ID, name, withoutTag(m.Actor.ID), withoutTag(name)} {
		if f.Exact("image", s) {
			return true
		}
	}
	return false
}

func withoutTag(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	if strings.HasPrefix(image, "sha256:") {
		return image
	}
	return reference.FamiliarName(ref)
}
