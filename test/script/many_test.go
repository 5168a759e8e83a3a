package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
)

// howMany is the number of containers in TestMany, fewer on slow machines.
func howMany(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PORTHOLE_TEST_MANY")
	if text == "" {
		return 200
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
	testenv.NeedsRoot(t)
	n := howMany(t)
	ctx := t.Context()
	if err := loadImage(ctx, "busybox"); err != nil {
		t.Fatal(err)
	}
	// One before, so that what is made only once is there.
	if _, err := daemon.Porthole(ctx, "run", "--rm", "busybox", "true"); err != nil {
		t.Fatal(err)
	}
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	logged := len(daemon.LogTail(1 << 30))
	t.Cleanup(func() { tidy(t, before, logged) })

	began := time.Now()
	inParallel(t, n, func(i int) error {
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
	inParallel(t, n, func(i int) error {
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

// inParallel calls fn for 0 to n-1, eight at a time.
func inParallel(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := fn(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
}

// TestClientsGoAway starts things whose clients disappear, over and over: the
// daemon keeps nothing of them.
func TestClientsGoAway(t *testing.T) {
	testenv.NeedsRoot(t)
	ctx := t.Context()
	if err := loadImage(ctx, "busybox"); err != nil {
		t.Fatal(err)
	}
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	logged := len(daemon.LogTail(1 << 30))
	t.Cleanup(func() { tidy(t, before, logged) })
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
		inParallel(t, 8, func(int) error {
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
