package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/portholehq/porthole/bench/floor"
)

// floorName is how the floor is asked for, see contains.
const floorName = "floor"

// floorRounds is how often the kernel and we take turns at least: its part is
// small, and the machine has other work.
const floorRounds = 300

// A floorTable is what the kernel alone takes for something, by phase, beside a
// command line of ours that does it.
type floorTable struct {
	title string
	args  []string
	once  func() ([]floor.Phase, error)

	names []string // of the phases
	took  map[string]result
	ours  result
}

// measureFloor prints tables of the kernel's part, and of how much more we take.
func measureFloor(ctx context.Context, s settings, out *table, e *engine) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "porthole-floor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // the container's root passes
		return err
	}
	if err := box(ctx, e); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clearAll(ctx, e)) }()
	text, err := e.cli(ctx, "inspect", "--format", "{{.State.Pid}}", "box")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return err
	}
	f, err := floor.New(filepath.Clean(dir), pid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tables := []*floorTable{
		{title: "run --rm busybox true", args: []string{"run", "--rm", "busybox", "true"}, once: func() ([]floor.Phase, error) { return f.Run(floor.Networked) }},
		{title: "run --rm --network none", args: []string{"run", "--rm", "--network", "none", "busybox", "true"}, once: func() ([]floor.Phase, error) { return f.Run(floor.None) }},
		{title: "exec CTR true", args: []string{"exec", "box", "true"}, once: f.Exec},
	}
	for i := range max(s.n, floorRounds) + 1 {
		for _, t := range tables {
			if err := t.round(ctx, e, i > 0); err != nil { // the first warms caches
				return err
			}
		}
	}
	for _, t := range tables {
		t.print(out, e.name)
	}
	return nil
}

// round does it once by the kernel alone and once by the engine.
func (t *floorTable) round(ctx context.Context, e *engine, counts bool) error {
	phases, err := t.once()
	if err != nil {
		return err
	}
	ours, err := timed(func() error { return e.quiet(ctx, t.args...) })
	if err != nil || !counts {
		return err
	}
	if t.took == nil {
		t.took = map[string]result{}
		for _, p := range phases {
			t.names = append(t.names, p.Name)
		}
	}
	for _, p := range phases {
		t.took[p.Name] = append(t.took[p.Name], float64(p.Took)/float64(time.Millisecond))
	}
	t.ours = append(t.ours, ours)
	return nil
}

func (t *floorTable) print(out *table, engine string) {
	show := func(name string, r result) {
		out.line(name, fmt.Sprintf("%.2f ms", r.min()), fmt.Sprintf("%.2f ms", r.median()))
	}
	out.begin(fmt.Sprintf("the kernel alone: %s, %d times", t.title, len(t.ours)), "least", "median")
	for _, name := range t.names {
		show(name, t.took[name])
	}
	show(engine+" "+t.title, t.ours)
	least := t.took[floor.Total]
	out.line("times the kernel's", fmt.Sprintf("%.1f", t.ours.min()/least.min()), fmt.Sprintf("%.1f", t.ours.median()/least.median()))
}
