package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// operations measures single steps of a container's life, and what else people do
// every day. dir is for files.
func operations(dir string) []benchmark {
	file, out := filepath.Join(dir, "file"), filepath.Join(dir, "copied")
	since := map[*engine]string{}
	return []benchmark{
		{name: "create", title: "create busybox true", unit: "ms", budget: unlimited, once: command("create", "busybox", "true")},
		{name: "start", title: "start CTR", unit: "ms", budget: unlimited, once: start},
		{name: "rm", title: "rm -f of a running container", unit: "ms", budget: unlimited, once: remove},
		{name: "images", title: "images", unit: "ms", budget: unlimited, once: command("images")},
		{
			name: "events", title: "events --since of 30 containers' lives", unit: "ms", budget: unlimited,
			setup: func(ctx context.Context, e *engine) (err error) {
				since[e], err = past(ctx, e)
				return err
			},
			once: func(ctx context.Context, e *engine) (float64, error) { return catchUp(ctx, e, since[e]) },
		},
		{
			name: "cp-in", title: "cp of 100 MB into a container", unit: "ms", budget: unlimited, most: 5,
			setup: func(ctx context.Context, e *engine) error { return errors.Join(random(file), box(ctx, e)) },
			once:  command("cp", "-q", file, "box:/file"),
		},
		{
			name: "cp-out", title: "cp of 100 MB out of one", unit: "ms", budget: unlimited, most: 5,
			setup: func(ctx context.Context, e *engine) error {
				return errors.Join(random(file), box(ctx, e), e.quiet(ctx, "cp", "-q", file, "box:/file"))
			},
			once: command("cp", "-q", "box:/file", out),
		},
	}
}

// random makes a file of 100 MB that nothing makes smaller.
func random(path string) error {
	data := make([]byte, 100_000_000)
	_, _ = rand.Read(data) // never fails
	return os.WriteFile(path, data, 0o600)
}

// start measures a start alone, without its create.
func start(ctx context.Context, e *engine) (float64, error) {
	id, err := e.cli(ctx, "create", "busybox", "sleep", "100000")
	if err != nil {
		return 0, err
	}
	id = strings.TrimSpace(id)
	took, err := timed(func() error { return e.quiet(ctx, "start", id) })
	return took, errors.Join(err, e.quiet(ctx, "rm", "-f", id))
}

// remove measures the end of a running container.
func remove(ctx context.Context, e *engine) (float64, error) {
	id, err := e.cli(ctx, "run", "-d", "busybox", "sleep", "100000")
	if err != nil {
		return 0, err
	}
	return timed(func() error { return e.quiet(ctx, "rm", "-f", strings.TrimSpace(id)) })
}

// past makes events, no more than Docker keeps (256), and returns since when.
func past(ctx context.Context, e *engine) (string, error) {
	since := unixTime()
	return since, inParallel(30, 4, func(int) error { return e.quiet(ctx, "run", "--rm", "busybox", "true") })
}

// catchUp measures how long it takes to be told what was.
func catchUp(ctx context.Context, e *engine, since string) (float64, error) {
	var events int
	took, err := timed(func() error {
		out, err := e.cli(ctx, "events", "--since", since, "--until", unixTime())
		events = strings.Count(out, "\n")
		return err
	})
	if err == nil && events < 150 { // create, start, die, destroy and the network's two of each
		err = fmt.Errorf("%s: %d events, want 150 at least", e.name, events)
	}
	return took, err
}

// unixTime is the time now as `events` reads it.
func unixTime() string {
	now := time.Now()
	return strconv.FormatInt(now.Unix(), 10) + "." + fmt.Sprintf("%09d", now.Nanosecond())
}
