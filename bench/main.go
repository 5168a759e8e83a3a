// Command bench measures Porthole side by side with a Docker Engine.
//
//	make bench                      everything, some minutes
//	bench -n 10 -only run,exec      ten times, these alone
//	bench -docker=false -only floor what the kernel alone takes for a container
//
// Both engines run in one world of their own (test/bed), take turns, and are
// asked by their own command lines. For each thing the fastest and the middle
// time are printed, and how many times faster Porthole is by the middle one.
// The budgets are those of the design.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	n      int
	only   string
	images string
	docker bool
}

func run() error {
	var s settings
	flag.IntVar(&s.n, "n", 20, "how often each thing is done")
	flag.StringVar(&s.only, "only", "", "comma-separated names of what to measure; empty for all")
	flag.StringVar(&s.images, "images", "/var/cache/porthole-test-images/images", "folder with the test images")
	flag.BoolVar(&s.docker, "docker", true, "measure a Docker Engine as well")
	flag.Parse()

	ctx := context.Background()
	dir, err := os.MkdirTemp("/var/tmp", "porthole-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	porthole, err := startPorthole(ctx, filepath.Join(dir, "porthole"), s.images)
	if err != nil {
		return err
	}
	defer porthole.stop()
	engines := []*engine{porthole}
	if s.docker {
		docker, err := startDocker(ctx, filepath.Join(dir, "docker"), s.images)
		if err != nil {
			return err
		}
		defer docker.stop()
		docker.buildkit = porthole.buildkit
		engines = append(engines, docker)
	}
	for _, e := range engines {
		version, err := e.cli(ctx, "version", "--format", "{{.Server.Version}}")
		if err != nil {
			return err
		}
		fmt.Printf("%s %s\n", e.name, strings.TrimSpace(version))
	}
	return measureAll(ctx, s, engines)
}

// measureAll does everything that is wanted, and prints a line for each.
func measureAll(ctx context.Context, s settings, engines []*engine) error {
	fmt.Printf("\n"+row, "what", "porthole min", "median", "docker min", "median", "times", "budget")
	failed := 0
	pull, done := pulls(s.images)
	defer done()
	dockerfile, err := os.MkdirTemp("", "bench-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dockerfile)
	for _, b := range slices.Concat(benchmarks, builds(dockerfile), []benchmark{pull}) {
		if s.only != "" && !contains(s.only, b.name) {
			continue
		}
		results := make([]result, len(engines))
		if err := b.measure(ctx, s, engines, results); err != nil {
			fmt.Printf("%s: failed: %v\n", b.title, err)
			failed++
			continue
		}
		fmt.Printf(row, b.cells(results)...)
	}
	if s.only == "" || contains(s.only, floorName) {
		if err := measureFloor(ctx, s, engines[0]); err != nil {
			fmt.Printf("%s: failed: %v\n", floorName, err)
			failed++
		}
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

// row is a line of the table. Its widths are fixed, as a person waits for each.
const row = "%-42s %12s %10s %12s %10s %6s  %s\n"

// cells are the cells of a row.
func (b benchmark) cells(results []result) []any {
	f := []any{b.title, b.show(results[0].min()), b.show(results[0].median())}
	verdict := "met"
	if results[0].median() > b.budget {
		verdict = "missed"
	}
	if len(results) > 1 {
		times := results[1].median() / results[0].median()
		f = append(f, b.show(results[1].min()), b.show(results[1].median()), fmt.Sprintf("%.1f", times))
		if b.times > 0 && times < b.times {
			verdict = "missed"
		}
	} else {
		f = append(f, "", "", "")
	}
	budget := ""
	if b.budget < unlimited {
		budget = b.show(b.budget)
	}
	if b.times > 0 {
		budget = strings.TrimPrefix(budget+fmt.Sprintf(", %gx", b.times), ", ")
	}
	return append(f, strings.TrimSpace(budget+" "+verdict))
}

// timed calls fn and returns how long that took, in milliseconds.
func timed(fn func() error) (float64, error) {
	began := time.Now()
	err := fn()
	return float64(time.Since(began).Microseconds()) / 1000, err
}
