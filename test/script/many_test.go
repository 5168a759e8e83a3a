package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// howMany is the number of containers in TestMany, fewer on slow machines.
func howMany(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PORTHOLE_TEST_MANY")
	if text == "" {
		return 60 // test/load has more
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMany runs many containers at once and removes them all. Everything goes
// back to where it was.
func TestMany(t *testing.T) {
	before := begin(t)
	n := howMany(t)
	ctx := t.Context()

	began := time.Now()
	bed.InParallel(t, n, func(i int) error {
		_, err := daemon.Porthole(ctx, "run", "-d", "--name", fmt.Sprint("many", i), "busybox", "sleep", "100000")
		return err
	})
	t.Logf("started %d containers in %v", n, time.Since(began))

	out, err := daemon.Porthole(ctx, "ps", "--format", "{{.Names}} {{.State}}")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, " running"); got != n {
		t.Errorf("%d containers run, want %d", got, n)
	}
	addresses, err := daemon.Porthole(ctx, "network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{end}}", "bridge")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(addresses)
	slices.Sort(list)
	if got := len(slices.Compact(list)); got != n {
		t.Errorf("%d different addresses, want %d", got, n)
	}
	// They are alive, each for itself.
	bed.InParallel(t, n, func(i int) error {
		out, err := daemon.Porthole(ctx, "exec", fmt.Sprint("many", i), "sh", "-c", "cat /proc/1/cmdline | tr '\\000' ' '")
		if err == nil && out != "sleep 100000 " {
			err = fmt.Errorf("container %d runs %q", i, out)
		}
		return err
	})

	began = time.Now()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("many", i)
	}
	if _, err := daemon.Porthole(ctx, append([]string{"rm", "-f"}, names...)...); err != nil {
		t.Error(err)
	}
	t.Logf("removed them in %v", time.Since(began))
	if err := settled(ctx, before); err != nil {
		t.Error(err)
	}
}

// TestClientsGoAway starts things whose clients disappear, over and over: the
// daemon keeps nothing of them.
func TestClientsGoAway(t *testing.T) {
	begin(t)
	ctx := t.Context()
	if _, err := daemon.Porthole(ctx, "run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	running, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"logs", "-f", "box"}, {"attach", "box"}, {"events"}, {"stats", "box"}, {"wait", "box"}, {"exec", "box", "sleep", "0.5"},
	} {
		bed.InParallel(t, 8, func(int) error {
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			cmd := exec.CommandContext(short, daemon.Program("porthole"), args...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
			_ = cmd.Run() // killed
			return nil
		})
	}
	if err := settled(ctx, running); err != nil {
		t.Error(err)
	}
	out, err := daemon.Porthole(ctx, "inspect", "-f", "{{.State.Running}}", "box")
	if err != nil || out != "true" {
		t.Errorf("container runs: %q, %v", out, err)
	}
}

// manyExecs is how many execs TestExecs runs by each command line.
var manyExecs = map[string]int{"porthole": 700, "docker": 300}

// TestExecs runs many execs, some of which leave processes that hold their
// pipes: each returns when its own process has ended, and neither the daemon nor
// the shim keeps anything.
func TestExecs(t *testing.T) {
	begin(t)
	docker := testenv.NeedsProgram(t, "docker")
	ctx := t.Context()
	if _, err := daemon.Porthole(ctx, "run", "-d", "--name", "box", "busybox", "sleep", "100000"); err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"porthole": daemon.Program("porthole"), "docker": docker}
	run := func(ctx context.Context, program string, args ...string) error {
		cmd := exec.CommandContext(ctx, program, append([]string{"exec", "box"}, args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w\n%s", program, args, err, out)
		}
		return nil
	}
	for name, program := range programs {
		if err := run(ctx, program, "true"); err != nil { // what is made once
			t.Fatal(err)
		}
		quickest := time.Hour
		for range 20 {
			began := time.Now()
			short, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := run(short, program, "sh", "-c", "sleep 300 &")
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			quickest = min(quickest, took)
			if took > 5*time.Second { // a second on a machine that has nothing else to do
				t.Errorf("%s: an exec whose child lives on took %v", name, took)
			}
		}
		if quickest > time.Second {
			t.Errorf("%s: the quickest exec whose child lives on took %v", name, quickest)
		}
		t.Logf("%s: the quickest exec whose child lives on took %v", name, quickest)
	}
	// The shell has ended before its child was executed, perhaps.
	var running bed.Snapshot
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		var err error
		if running, err = daemon.Snapshot(); err != nil {
			t.Fatal(err)
		}
		children := 0
		for _, p := range running.Processes {
			if p == "sleep sleep 300" {
				children++
			}
		}
		if children == 20*len(programs) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d children of execs live", children, 20*len(programs))
		}
	}
	shim := daemon.Shim(t, "box")
	files, threads := countIn(t, shim, "fd"), countIn(t, shim, "task")
	for name, program := range programs {
		began := time.Now()
		bed.InParallel(t, manyExecs[name], func(int) error { return run(ctx, program, "true") })
		t.Logf("%s: %d execs in %v", name, manyExecs[name], time.Since(began))
	}
	if err := settled(ctx, running); err != nil {
		t.Error(err)
	}
	if got := countIn(t, shim, "fd"); got > files+slack {
		t.Errorf("the shim holds %d files, before it were %d", got, files)
	}
	// Threads that were needed at once stay for later; they do not grow with the number of execs.
	if got := countIn(t, shim, "task"); got > threads+2*slack {
		t.Errorf("the shim has %d threads, before it were %d", got, threads)
	}
}

// countIn counts what is in a directory of a process.
func countIn(t *testing.T, pid int, dir string) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
