// Command bench measures Porthole side by side with a Docker Engine.
//
//	make bench                     everything, some ten minutes
//	bench -n 10 -only run,exec     ten times at most, these alone
//	bench -docker debian           beside the Docker on the path
//	bench -docker none -only floor what the kernel alone takes for a container
//
// Both engines run in one world of their own (test/bed), take turns, and are
// asked by their own command lines. For each thing the fastest and the middle
// time are printed, and how many times faster Porthole is by the middle one. What
// takes long is done less often, and its line says so.
// The budgets are those of the design. A second table tells what things cost
// with more and more running containers.
//
// Docker is the newest that bench/docker pins, run as it comes: its own storage,
// no user namespaces, docker-proxy and iptables for ports. Its containers outlive
// the daemon, as ours do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

func main() {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: needs root (make bench asks for it)")
		os.Exit(1)
	}
	os.Exit(bed.World(func() int {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}))
}

// settings come from the command line.
type settings struct {
	n        int
	only     string
	images   string
	docker   string
	markdown bool
}

func (s settings) wants(name string) bool { return s.only == "" || contains(s.only, name) }

func run() error {
	var s settings
	flag.IntVar(&s.n, "n", 20, "how often each thing is done at most")
	flag.StringVar(&s.only, "only", "", "comma-separated names of what to measure; empty for all")
	flag.StringVar(&s.images, "images", "/var/cache/porthole-test-images/images", "folder with the test images")
	flag.StringVar(&s.docker, "docker", onPath, "folder with the programs of a Docker Engine to measure as well, see bench/docker; "+
		onPath+" for those on the path, "+noDocker+" for none")
	flag.BoolVar(&s.markdown, "markdown", false, "print tables in Markdown")
	flag.Parse()

	// Engines and their files do not go by themselves.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("/var/tmp", "porthole-bench-")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	porthole, err := startPorthole(ctx, filepath.Join(dir, "porthole"), s.images)
	if err != nil {
		return err
	}
	defer porthole.stop()
	engines := []*engine{porthole}
	version, err := porthole.cli(ctx, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return err
	}
	t := &table{out: os.Stdout, markdown: s.markdown}
	t.say("porthole %s", strings.TrimSpace(version))
	if s.docker != noDocker {
		p := &peer{dir: filepath.Join(dir, "docker"), bin: s.docker}
		if s.docker == onPath {
			p.bin = ""
		}
		docker, err := startDocker(ctx, p, s.images)
		if err != nil {
			return err
		}
		defer docker.stop()
		docker.buildkit = porthole.buildkit
		if err := p.introduce(ctx, t, docker); err != nil {
			return err
		}
		engines = append(engines, docker)
	}
	t.say("%s", machine())
	return measureAll(ctx, s, t, engines)
}

// removeAll removes a folder, and tells if it stays.
func removeAll(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// Words for -docker.
const (
	onPath   = "debian"
	noDocker = "none"
)

// machine tells on what was measured, and how busy it was.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d processors, Linux %s, %s, load %s before it", runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]),
		time.Now().Format(time.DateOnly), strings.Fields(string(load))[0])
}

// measureAll does everything that is wanted, and prints a line for each.
func measureAll(ctx context.Context, s settings, t *table, engines []*engine) error {
	pull, done := pulls(s.images)
	defer done()
	dir, err := os.MkdirTemp("/var/tmp", "porthole-bench-files-")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	failed := 0
	head := true
	for _, b := range slices.Concat(benchmarks, operations(dir), builds(dir), []benchmark{pull}, restarts()) {
		if !s.wants(b.name) {
			continue
		}
		if head {
			t.begin(headings...)
			head = false
		}
		results := make([]result, len(engines))
		if err := b.measure(ctx, s, engines, results); ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		} else if err != nil {
			t.say("%s: failed: %v", b.title, err)
			failed++
			continue
		}
		t.line(b.cells(results, b.rounds(s.n))...)
	}
	if s.wants(growthName) {
		if err := measureGrowth(ctx, t, engines); err != nil {
			t.say("%s: failed: %v", growthName, err)
			failed++
		}
	}
	if s.wants(floorName) && ctx.Err() == nil {
		if err := measureFloor(ctx, s, t, engines[0]); err != nil {
			t.say("%s: failed: %v", floorName, err)
			failed++
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed > 0 {
		return fmt.Errorf("%d of them failed", failed)
	}
	return nil
}

func contains(list, name string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part == name {
			return true
		}
	}
	return false
}

// headings are those of the table of benchmarks.
var headings = []string{"what", "porthole least, median", "docker least, median", "times", "budget"}

// cells are the cells of the line of a benchmark that was to be done n times.
func (b benchmark) cells(results []result, n int) []string {
	var missed []string
	var budget []string
	if b.budget < unlimited {
		budget = append(budget, number(b.budget))
		if results[0].median() > b.budget {
			missed = append(missed, number(b.budget))
		}
	}
	title := b.title
	if len(results[0]) < n {
		title += fmt.Sprintf(" (%d of %d)", len(results[0]), n)
	}
	cells := []string{title, b.show(results[0]), "", ""}
	if len(results) > 1 {
		times := results[1].median() / results[0].median()
		cells[2], cells[3] = b.show(results[1]), fmt.Sprintf("%.1f", times)
		if b.times > 0 {
			factor := fmt.Sprintf("%g times", b.times)
			budget = append(budget, factor)
			if times < b.times {
				missed = append(missed, factor)
			}
		}
	}
	verdict := ""
	switch {
	case len(missed) > 0:
		verdict = strings.Join(missed, " and ") + " missed"
	case len(budget) > 0:
		verdict = strings.Join(budget, " and ") + " met"
	}
	return append(cells, verdict)
}

// show shows the least and the middle of a result.
func (b benchmark) show(r result) string {
	if len(r) == 1 {
		return number(r[0]) + " " + b.unit
	}
	return number(r.min()) + ", " + number(r.median()) + " " + b.unit
}

// timed calls fn and returns how long that took, in milliseconds.
func timed(fn func() error) (float64, error) {
	began := time.Now()
	err := fn()
	return float64(time.Since(began).Microseconds()) / 1000, err
}
