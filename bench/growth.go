package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// growthName is how the table of growth is asked for, see contains.
const growthName = "growth"

// growthRounds is how often each thing is done at each number of containers.
const growthRounds = 7

// A cost is a line of the table of growth: what something costs, by how many
// containers run.
type cost struct {
	title string
	unit  string
	// once does the thing once and returns what was measured.
	once func(ctx context.Context, e *engine) (float64, error)
	// most bounds how often it is done. Zero: growthRounds.
	most int
}

var costs = []cost{
	{title: "run --rm busybox true", unit: "ms", once: command("run", "--rm", "busybox", "true")},
	{title: "exec CTR true", unit: "ms", once: command("exec", "box", "true")},
	{title: "ps", unit: "ms", once: command("ps")},
	{title: "ps -q", unit: "ms", once: command("ps", "-q")},
	{title: "inspect CTR", unit: "ms", once: command("inspect", "box")},
	{title: "stats --no-stream CTR", unit: "ms", once: command("stats", "--no-stream", "box"), most: 3},
	{title: "logs --tail 100 CTR", unit: "ms", once: command("logs", "--tail", "100", "box")},
	{title: "engine, resident memory", unit: "MiB", once: engineMemory, most: 1},
	{title: "daemon, descriptors", once: descriptors, most: 1},
	{title: "daemon, goroutines", once: goroutines, most: 1},
}

// measureGrowth prints what things cost with more and more running containers:
// up to 500 of ours, and up to 100 of Docker's, which take their time.
func measureGrowth(ctx context.Context, t *table, engines []*engine) (err error) {
	defer func() {
		for _, e := range engines {
			err = errors.Join(err, clearAll(ctx, e))
		}
	}()
	head := []string{"running containers"}
	columns := make([][]string, len(costs))
	for _, e := range engines {
		steps := []int{1, 10, 100, 500}
		if e != engines[0] {
			steps = steps[:3]
		}
		if err := talker(ctx, e); err != nil {
			return err
		}
		there := 1
		for _, n := range steps {
			if err := many(ctx, e, n-there); err != nil {
				return err
			}
			there = n
			head = append(head, fmt.Sprintf("%s %d", e.name, n))
			for i, c := range costs {
				text, err := c.measure(ctx, e)
				if err != nil {
					return err
				}
				columns[i] = append(columns[i], text)
			}
		}
	}
	t.begin(head...)
	for i, c := range costs {
		t.line(append([]string{c.title}, columns[i]...)...)
	}
	return nil
}

// measure returns the least and the middle of what was measured.
func (c cost) measure(ctx context.Context, e *engine) (string, error) {
	n := growthRounds
	if c.most > 0 {
		n = c.most
	}
	var r result
	for range n {
		v, err := c.once(ctx, e)
		if err != nil {
			return "", err
		}
		r = append(r, v)
	}
	if n == 1 {
		return strings.TrimSpace(number(r[0]) + " " + c.unit), nil
	}
	return fmt.Sprintf("%s, %s %s", number(r.min()), number(r.median()), c.unit), nil
}

// talker starts the container that is looked at, with some thousand lines in its log.
func talker(ctx context.Context, e *engine) error {
	return e.quiet(ctx, "run", "-d", "--name", "box", "busybox", "sh", "-c", "seq 10000; exec sleep 100000")
}

// descriptors counts the open files of the daemon.
func descriptors(_ context.Context, e *engine) (float64, error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.pid))
	return float64(len(fds)), err
}

// goroutines asks the daemon how many it has.
func goroutines(ctx context.Context, e *engine) (float64, error) {
	var info struct{ NGoroutines float64 }
	err := ask(ctx, e.client(), "/info", &info)
	return info.NGoroutines, err
}
