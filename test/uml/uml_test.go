package uml

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

//go:embed init.sh
var initScript string

// limit is how long the whole machine may run.
const limit = 40 * time.Minute

// suite is a test binary, by package, with its arguments.
type suite struct{ name, pkg, args string }

// suites are those that run, one after the other.
var suites = []suite{
	{"cgroup", "internal/linux/cgroup", "-test.timeout=3m"},
	{"runtime", "internal/runtime", "-test.timeout=15m"},
	{"script", "test/script", "-test.timeout=20m -test.run=^TestScript/(porthole|own)/core_|^TestTerminalRun/porthole|^TestMany$"},
}

// chosen returns the suites, or the one that PORTHOLE_TEST_UML_RUN names, with
// the tests that it gives: script=TestScript/own/core_debug$.
func chosen(t *testing.T) []suite {
	t.Helper()
	name, pattern, ok := strings.Cut(os.Getenv("PORTHOLE_TEST_UML_RUN"), "=")
	if !ok && name != "" {
		t.Fatalf("PORTHOLE_TEST_UML_RUN=%s: want SUITE=PATTERN", name)
	}
	var all []suite
	for _, s := range suites {
		if name != "" && s.name != name {
			continue
		}
		if pattern != "" {
			s.args += " -test.run=" + pattern
		}
		if testing.Verbose() {
			s.args += " -test.v"
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		t.Fatalf("PORTHOLE_TEST_UML_RUN: there is no suite %q", name)
	}
	return all
}

func TestUML(t *testing.T) {
	testenv.NeedsRoot(t)
	linux := testenv.NeedsProgram(t, "linux.uml")
	testenv.NeedsProgram(t, "mkfs.ext4")
	testenv.NeedsProgram(t, "modprobe")
	root := sourceRoot(t)
	dir := machine(t, root)

	linux, err := fitting(linux, dir)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, linux, "rootfstype=hostfs", "rootflags=/", "rw", "mem=2G",
		"init="+filepath.Join(dir, "init"), "con0=null,fd:1", "con=null", "ubd0="+filepath.Join(dir, "image"))
	// It starts helpers, which have to end with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var kernel bytes.Buffer
	cmd.Stdout, cmd.Stderr = &kernel, &kernel
	began := time.Now()
	err = cmd.Run()
	t.Logf("the machine ran for %v", time.Since(began).Round(time.Second))
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v: %w", limit, ctx.Err())
	}
	if err != nil {
		t.Errorf("linux.uml: %v\n%s", err, tail(kernel.String(), 40))
	}
	if console := read(t, dir, "console"); console != "" {
		t.Errorf("init.sh says:\n%s\nand the kernel:\n%s", console, tail(kernel.String(), 40))
	}
	for _, r := range chosen(t) {
		t.Run(r.name, func(t *testing.T) { judge(t, dir, r.name) })
	}
	passOnSkips(t, dir)
}

// judge reports what a test binary said.
func judge(t *testing.T, dir, name string) {
	t.Helper()
	out := read(t, dir, name+".out")
	if testing.Verbose() {
		t.Logf("\n%s", out)
	}
	switch code := strings.TrimSpace(read(t, dir, name+".code")); {
	case code == "":
		t.Errorf("did not come to its end:\n%s", tail(out, 100))
	case code != "0":
		t.Errorf("ended with status %s:\n%s", code, tail(out, 300))
	case strings.Contains(out, "no tests to run"):
		t.Errorf("ran no test:\n%s", tail(out, 20))
	}
}

// passOnSkips adds the skips inside to the list of the run.
func passOnSkips(t *testing.T, dir string) {
	t.Helper()
	for line := range strings.Lines(read(t, dir, "skips")) {
		t.Run("skips", func(t *testing.T) { testenv.Skip(t, "inside: %s", strings.TrimSpace(line)) })
	}
}

// machine prepares the folder that init.sh expects.
func machine(t *testing.T, root string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "porthole-uml-") //nolint:usetesting // has to be outside of /tmp, which the machine covers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("PORTHOLE_TEST_KEEP") == "" {
			_ = os.RemoveAll(dir)
		}
	})
	bin := os.Getenv("PORTHOLE_TEST_BIN")
	if bin == "" {
		run(t, root, "make", "build")
		bin = filepath.Join(root, "bin")
	}
	images := os.Getenv("PORTHOLE_TEST_IMAGES")
	if images == "" {
		images = "/var/cache/porthole-test-images/images"
	}
	script := strings.NewReplacer("@DIR@", dir, "@BIN@", bin, "@IMAGES@", images).Replace(initScript)
	write(t, dir, "init", script, 0o755)
	var plan strings.Builder
	for _, r := range chosen(t) {
		binary := filepath.Join(dir, r.name+".test")
		run(t, root, "go", "test", "-c", "-o", binary, "./"+r.pkg)
		link(t, filepath.Join(root, r.pkg), filepath.Join(dir, "src", r.name))
		fmt.Fprintln(&plan, r.name, binary, r.args)
	}
	write(t, dir, "plan", plan.String(), 0o644)
	// modprobe -d looks below lib/modules.
	link(t, "/usr/lib/uml/modules", filepath.Join(dir, "lib", "modules"))
	write(t, dir, "image", "", 0o600)
	if err := os.Truncate(filepath.Join(dir, "image"), 4<<30); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "mkfs.ext4", "-q", "-F", "image")
	return dir
}

func sourceRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
}

// read returns a file of the machine, "" if it was not written.
func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return string(data)
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
