// Package conform runs the validation programs of the OCI's runtime-tools against
// porthole-oci. What fails has to be exactly what docs/design/oci.md lists and explains.
package conform

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
)

// listed is a row of the document's table.
type listed struct {
	program, text string // patterns as path.Match has them, program without slashes
	always        bool   // it fails on every machine
	seen          bool
}

func TestValidation(t *testing.T) {
	testenv.NeedsRoot(t)
	programs, runtime := programs(t), runtimeUnderTest(t)
	rows := readRows(t, "../../docs/design/oci.md")
	dir := t.TempDir()
	prepare(t, programs, dir)
	var mu sync.Mutex
	check := func(program string) {
		failures, tap := validate(t, programs, program, runtime, dir)
		mu.Lock()
		defer mu.Unlock()
		for _, f := range failures {
			known := false
			for _, r := range rows {
				if matches(r.program, program) && matches(r.text, f) {
					known, r.seen = true, true
				}
			}
			if !known {
				t.Errorf("%s: %s: fails, and docs/design/oci.md does not say why:\n%s", program, f, tap)
			}
		}
	}
	// Those that are about cgroups share one.
	var apart, together []string
	for _, p := range list(t, programs) {
		if strings.Contains(p, "cgroups") || strings.HasPrefix(p, "delete_") {
			together = append(together, p)
		} else {
			apart = append(apart, p)
		}
	}
	queue := make(chan string)
	var all sync.WaitGroup
	for range 8 { // they sleep most of the time
		all.Go(func() {
			for p := range queue {
				check(p)
			}
		})
	}
	all.Go(func() {
		for _, p := range together {
			check(p)
		}
	})
	for _, p := range apart {
		queue <- p
	}
	close(queue)
	all.Wait()
	for _, r := range rows {
		// Some fail by what is in time for what: as a rule, and not on a machine that is slow at the moment.
		for tries := 0; r.always && !r.seen && tries < 10; tries++ {
			for _, p := range slices.DeleteFunc(list(t, programs), func(p string) bool { return !matches(r.program, p) }) {
				check(p)
			}
		}
		if r.always && !r.seen {
			t.Errorf("%s: %s: is in the list of docs/design/oci.md and does not fail", r.program, r.text)
		}
	}
}

// programs is the directory of what test/oci/build.sh has built.
func programs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("PORTHOLE_TEST_OCI"); dir != "" {
		return dir
	}
	out, err := exec.CommandContext(t.Context(), "sh", "../oci/build.sh").Output()
	if err != nil {
		t.Fatalf("runtime-tools (make oci): %v", err)
	}
	return strings.TrimSpace(string(out))
}

func runtimeUnderTest(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("PORTHOLE_TEST_BIN")
	if bin == "" {
		bin = "../../bin"
	}
	runtime, err := filepath.Abs(filepath.Join(bin, "porthole-oci"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(runtime); err != nil {
		t.Fatalf("%v (make build)", err)
	}
	return runtime
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "runtimetest" && !strings.HasSuffix(e.Name(), ".gz") {
			names = append(names, e.Name())
		}
	}
	if len(names) < 50 {
		t.Fatalf("%d programs in %s: some are missing", len(names), dir)
	}
	return names
}

// prepare puts what the programs look for into their working directory.
func prepare(t *testing.T, programs, dir string) {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(programs, "*.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("root filesystems in %s: %v, %v", programs, archives, err)
	}
	for _, name := range []string{archives[0], filepath.Join(programs, "runtimetest")} {
		b, err := os.ReadFile(name) // a link would be copied into the containers as one
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// validate runs one program and returns what failed, and all that it said.
func validate(t *testing.T, programs, program, runtime, dir string) (failures []string, tap string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, program))
	var out, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &out, &stderr, time.Second
	cmd.Env = append(os.Environ(), "RUNTIME="+runtime, "TMPDIR="+dir) // not all of them clean up
	err := cmd.Run()
	failures = failed(out.String())
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		failures = append(failures, exit.Error())
	} else if err != nil {
		t.Errorf("%s: %v", program, err)
	}
	if len(failures) > 0 {
		t.Logf("%s: %q\n%s", program, failures, stderr.String())
	}
	return failures, out.String()
}

// failed lists the tests of a TAP stream that did not succeed. One that is about another
// stream, which stands before it as a diagnostic, failed because of the tests in there.
func failed(tap string) []string {
	var list, inner []string
	lines := bufio.NewScanner(strings.NewReader(tap))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "not ok "):
			if len(inner) == 0 {
				_, text, _ := strings.Cut(line, " - ")
				inner = []string{text}
			}
			list = append(list, inner...)
			inner = nil
		case strings.HasPrefix(line, "ok "):
			inner = nil
		default:
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), `"stdout": `); ok {
				var text string
				if json.Unmarshal([]byte(strings.TrimSuffix(value, ",")), &text) == nil {
					inner = failed(text)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func matches(pattern, name string) bool {
	if pattern == "*" {
		return true
	}
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "|"), strings.ReplaceAll(name, "/", "|"))
	return ok && err == nil
}

// readRows reads the table of what fails: program, text, machine, reason.
func readRows(t *testing.T, name string) []*listed {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "| program | what fails |")
	if !found {
		t.Fatal("docs/design/oci.md has no table of what fails")
	}
	var rows []*listed
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 || !strings.HasPrefix(line, "| `") {
			if strings.TrimSpace(line) == "" && len(rows) > 0 {
				break
			}
			continue
		}
		unquote := func(s string) string { return strings.Trim(strings.TrimPrefix(s, "| "), "`") }
		rows = append(rows, &listed{program: unquote(cells[0]), text: unquote(cells[1]), always: cells[2] == "everywhere"})
	}
	if len(rows) == 0 {
		t.Fatal("the table of what fails is empty")
	}
	return rows
}

func TestFailedLooksIntoOtherStreams(t *testing.T) {
	inside, err := json.Marshal("ok 1 - a\nnot ok 2 - mounts\n")
	if err != nil {
		t.Fatal(err)
	}
	tap := fmt.Sprintf("TAP version 13\n  ---\n  {\n    \"stdout\": %s\n  }\n  ...\nnot ok 1 - outer\nok 2 - fine\nnot ok 3 - alone\n", inside)
	if got, want := failed(tap), []string{"alone", "mounts"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
