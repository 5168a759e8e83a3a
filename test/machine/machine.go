// Package machine has test binaries run in a machine of another kernel: it makes
// the folder that the machine's first process works with, and reports what came
// of it. Which program is the machine is the caller's, as in test/uml and test/stock.
//
//	dir := machine.Folder(ctx, t, "uml", initScript, suites)
//	kernel := machine.Boot(ctx, t, limit, program, "init="+dir+"/init", ...)
//	machine.Judge(t, dir, kernel, suites)
//
// The first process is a script. For each line of dir/plan, which names a suite,
// its binary and its arguments, it runs the binary in dir/src/SUITE and leaves
// what that says in dir/SUITE.out and its status in dir/SUITE.code. What it says
// itself is in dir/console. The data root is on the file system in dir/image.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// A Suite is a test binary, by package, with its arguments.
type Suite struct{ Name, Pkg, Args string }

// Chosen returns the suites, or the one that an environment variable names, with
// the tests that it gives: script=TestScript/own/core_debug$.
func Chosen(t *testing.T, variable string, suites []Suite) []Suite {
	t.Helper()
	name, pattern, ok := strings.Cut(os.Getenv(variable), "=")
	if !ok && name != "" {
		t.Fatalf("%s=%s: want SUITE=PATTERN", variable, name)
	}
	var all []Suite
	for _, s := range suites {
		if name != "" && s.Name != name {
			continue
		}
		if pattern != "" {
			s.Args += " -test.run=" + pattern
		}
		if testing.Verbose() {
			s.Args += " -test.v"
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		t.Fatalf("%s: there is no suite %q", variable, name)
	}
	return all
}

// Folder makes the folder for a machine of a name. In the script @DIR@, @SOURCE@,
// @BIN@ and @IMAGES@ stand for it, for the source tree, for the programs and for the
// test images, and so do the further pairs of old and new.
func Folder(ctx context.Context, t *testing.T, name, script string, suites []Suite, oldnew ...string) string {
	t.Helper()
	root := sourceRoot(t)
	above := bed.WorkRoot()
	if strings.HasPrefix(above+"/", "/tmp/") {
		above = "/var/tmp" // the machine covers /tmp
	}
	dir, err := os.MkdirTemp(above, "porthole-"+name+"-")
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
		Run(ctx, t, root, "make", "build")
		bin = filepath.Join(root, "bin")
	}
	pairs := slices.Concat([]string{"@DIR@", dir, "@SOURCE@", root, "@BIN@", bin, "@IMAGES@", bed.ImageDir()}, oldnew)
	write(t, dir, "init", strings.NewReplacer(pairs...).Replace(script), 0o755)
	var plan strings.Builder
	for _, s := range suites {
		binary := filepath.Join(dir, s.Name+".test")
		Run(ctx, t, root, "go", "test", "-c", "-o", binary, "./"+s.Pkg)
		Link(t, filepath.Join(root, s.Pkg), filepath.Join(dir, "src", s.Name))
		fmt.Fprintln(&plan, s.Name, binary, s.Args)
	}
	write(t, dir, "plan", plan.String(), 0o644)
	write(t, dir, "image", "", 0o600)
	if err := os.Truncate(filepath.Join(dir, "image"), 4<<30); err != nil {
		t.Fatal(err)
	}
	Run(ctx, t, dir, "mkfs.ext4", "-q", "-F", "image")
	return dir
}

// Boot runs a machine until it ends by itself, or the limit is over, and returns
// what its kernel said.
func Boot(ctx context.Context, t *testing.T, limit time.Duration, name string, args ...string) (kernel string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	// It may start helpers, which have to end with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	err := cmd.Run()
	t.Logf("the machine ran for %v", time.Since(began).Round(time.Second))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", filepath.Base(name), err, tail(said.String(), 40))
	}
	return said.String()
}

// Judge reports what the test binaries said, and adds their skips to those of the
// run. kernel is what the kernel said.
func Judge(t *testing.T, dir, kernel string, suites []Suite) {
	t.Helper()
	if console := read(t, dir, "console"); console != "" {
		t.Errorf("init.sh says:\n%s\nand the kernel:\n%s", console, tail(kernel, 40))
	}
	for _, s := range suites {
		t.Run(s.Name, func(t *testing.T) { judge(t, dir, s.Name) })
	}
	for line := range strings.Lines(read(t, dir, "skips")) {
		t.Run("skips", func(t *testing.T) { testenv.Skip(t, "inside: %s", strings.TrimSpace(line)) })
	}
}

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

func sourceRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// Run runs a program of the host's.
func Run(ctx context.Context, t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// Link makes a symbolic link, and the folders that it is in.
func Link(t *testing.T, target, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
}

// tail is the last lines of a text.
func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func write(t *testing.T, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
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
