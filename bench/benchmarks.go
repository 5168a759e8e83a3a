package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// unlimited is the budget of what has none.
const unlimited = math.MaxFloat64

// A result is what was measured, in milliseconds or MiB.
type result []float64

func (r result) min() float64 { return slices.Min(r) }

// median is the middle one, or the mean of the two in the middle.
func (r result) median() float64 {
	s := slices.Sorted(slices.Values(r))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// A benchmark is one line of the table.
type benchmark struct {
	name, title string
	unit        string
	// budget is the most that Porthole may need; unlimited for none.
	budget float64
	// times is how many times faster it has to be. Zero: does not matter.
	times float64
	// setup prepares an engine, once. May be nil.
	setup func(ctx context.Context, e *engine) error
	// once does the thing once and returns what was measured.
	once func(ctx context.Context, e *engine) (float64, error)
	// most bounds how often it is done. Zero: as often as was asked.
	most int
}

// rounds is how often it is done at the most, of n that were asked for.
func (b benchmark) rounds(n int) int {
	if b.most > 0 {
		n = min(n, b.most)
	}
	return n
}

// command is a benchmark of one command line.
func command(args ...string) func(context.Context, *engine) (float64, error) {
	return func(ctx context.Context, e *engine) (float64, error) {
		return timed(func() error { return e.quiet(ctx, args...) })
	}
}

// box starts the container that several benchmarks look at.
func box(ctx context.Context, e *engine) error {
	return e.quiet(ctx, "run", "-d", "--name", "box", "busybox", "sleep", "100000")
}

// lines is the script that writes 200 MB in lines of 60 bytes.
const lines = "yes 12345678901234567890123456789012345678901234567890123456789 | head -n 3333333"

// The budgets are those of the design's table.
var benchmarks = []benchmark{
	{name: "run", title: "run --rm busybox true", unit: "ms", budget: 25, times: 15, once: command("run", "--rm", "busybox", "true")},
	{name: "run-none", title: "run --rm --network none", unit: "ms", budget: 18, times: 15, once: command("run", "--rm", "--network", "none", "busybox", "true")},
	{name: "exec", title: "exec CTR true", unit: "ms", budget: 8, times: 10, setup: box, once: command("exec", "box", "true")},
	{name: "ps", title: "ps", unit: "ms", budget: 8, setup: box, once: command("ps")},
	{name: "inspect", title: "inspect CTR", unit: "ms", budget: 8, setup: box, once: command("inspect", "box")},
	{name: "stats", title: "stats --no-stream CTR", unit: "ms", budget: 30, setup: box, once: command("stats", "--no-stream", "box"), most: 5},
	{name: "parallel", title: "20 containers started at once", unit: "ms", budget: unlimited, times: 10, once: parallel, most: 5},
	{name: "write", title: "200 MB of lines, until wait returns", unit: "ms", budget: unlimited, times: 8, once: writeLines, most: 3},
	{name: "cat", title: "200 MB of 64-byte lines by cat", unit: "ms", budget: unlimited, times: 8, setup: linesFile, once: catLines, most: 5},
	{name: "read", title: "reading them back with logs", unit: "ms", budget: unlimited, times: 15, setup: fullLog, once: command("logs", "box"), most: 3},
	{name: "tail", title: "logs --tail 100 of them", unit: "ms", budget: 10, setup: fullLog, once: command("logs", "--tail", "100", "box")},
	{name: "shim", title: "shim, private memory per container", unit: "MiB", budget: 1.5, once: shimMemory, most: 1},
	{name: "engine", title: "engine, resident memory of all processes", unit: "MiB", budget: 60, once: engineMemory, most: 1},
}

const (
	// patience is how long a benchmark is done again.
	patience = 20 * time.Second
	// leastRounds is how often it is done all the same, after the first.
	leastRounds = 2
)

// measure fills one result per engine; the engines take turns.
func (b benchmark) measure(ctx context.Context, s settings, engines []*engine, results []result) (err error) {
	defer func() {
		for _, e := range engines {
			err = errors.Join(err, clearAll(ctx, e))
		}
	}()
	for _, e := range engines {
		if b.setup == nil {
			continue
		}
		if err := b.setup(ctx, e); err != nil {
			return err
		}
	}
	n := b.rounds(s.n)
	began := time.Now()
	for i := range n + 1 {
		// What takes its time is not measured more finely by being done often.
		if i > leastRounds && time.Since(began) > patience {
			break
		}
		for j, e := range engines {
			v, err := b.once(ctx, e)
			if err != nil {
				return err
			}
			// The first round warms caches, unless it is the only one.
			if i > 0 || b.most == 1 {
				results[j] = append(results[j], v)
			}
		}
		if b.most == 1 {
			break
		}
	}
	return nil
}

// clearing is how long the removal of all containers may take.
const clearing = 2 * time.Minute

// clearAll removes all containers of an engine, also when ctx is done.
func clearAll(ctx context.Context, e *engine) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearing)
	defer cancel()
	ids, err := e.cli(ctx, "ps", "-aq")
	if err != nil || ids == "" {
		return err
	}
	return e.quiet(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
}

func parallel(ctx context.Context, e *engine) (float64, error) {
	took, err := timed(func() error {
		return inParallel(20, 20, func(int) error { return e.quiet(ctx, "run", "-d", "busybox", "sleep", "100000") })
	})
	return took, errors.Join(err, clearAll(ctx, e))
}

// writeLines measures lines that take their maker some time as well.
func writeLines(ctx context.Context, e *engine) (float64, error) {
	return untilEnd(ctx, e, "busybox", "sh", "-c", lines)
}

// linesFile puts 200 MB of lines into a volume.
func linesFile(ctx context.Context, e *engine) error {
	return e.quiet(ctx, "run", "--rm", "-v", "lines:/lines", "busybox", "sh", "-c",
		"yes 123456789012345678901234567890123456789012345678901234567890123 | head -n 3125000 >/lines/file")
}

// catLines measures lines that come as fast as a program can write.
func catLines(ctx context.Context, e *engine) (float64, error) {
	return untilEnd(ctx, e, "-v", "lines:/lines", "busybox", "cat", "/lines/file")
}

// untilEnd starts a container and waits for its end.
func untilEnd(ctx context.Context, e *engine, args ...string) (float64, error) {
	took, err := timed(func() error {
		id, err := e.cli(ctx, append([]string{"run", "-d"}, args...)...)
		if err != nil {
			return err
		}
		return e.quiet(ctx, append([]string{"wait"}, strings.Fields(id)...)...)
	})
	return took, errors.Join(err, clearAll(ctx, e))
}

// fullLog leaves a container behind whose log has the 200 MB.
func fullLog(ctx context.Context, e *engine) error {
	if err := e.quiet(ctx, "run", "-d", "--name", "box", "--log-opt", "max-size=1g", "busybox", "sh", "-c", lines); err != nil {
		return err
	}
	return e.quiet(ctx, "wait", "box")
}

func shimMemory(ctx context.Context, e *engine) (float64, error) {
	const n = 10
	for range n {
		if err := e.quiet(ctx, "run", "-d", "busybox", "sleep", "100000"); err != nil {
			return 0, err
		}
	}
	pids, err := processes(e.shims)
	if err != nil {
		return 0, err
	}
	if len(pids) < n {
		return 0, fmt.Errorf("%d processes called %s, want %d", len(pids), e.shims, n)
	}
	var sum float64
	for _, pid := range pids {
		private, _, err := memory(pid)
		if err != nil {
			return 0, err
		}
		sum += private
	}
	return sum / float64(len(pids)), nil
}

func engineMemory(_ context.Context, e *engine) (float64, error) {
	pids := []int{e.pid}
	for _, name := range e.helpers {
		more, err := processes(name)
		if err != nil {
			return 0, err
		}
		pids = append(pids, more...)
	}
	var sum float64
	for _, pid := range pids {
		_, rss, err := memory(pid)
		if err != nil {
			return 0, err
		}
		sum += rss
	}
	return sum, nil
}
