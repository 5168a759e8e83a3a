package hostile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// raceTime is how long each race is run for, or longer until it has gone both ways.
const raceTime = time.Second

// settling is how long things may take to disappear.
const settling = 30 * time.Second

// What serves all tests of this package; daemon is nil without root.
var (
	daemon *bed.Daemon
	// attackDir has the attacker's program. It is mounted at /attack.
	attackDir string
)

func TestMain(m *testing.M) {
	bed.Main(m, func() (func(), error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-hostile-")
		if err != nil {
			return nil, err
		}
		// What keeps others out must be the daemon's doing.
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		attackDir = filepath.Join(dir, "attack")
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(attackDir, "attack"), "./attack")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("build the attacker: %w\n%s", err, out), os.RemoveAll(dir))
		}
		d, err := bed.Start(bed.Options{Dir: dir, Args: []string{"--insecure-registry", registryAddr}})
		if err != nil {
			return nil, err
		}
		daemon = d
		if _, err := d.Porthole(ctx, "load", "-q", "-i", bed.Archive("busybox")); err != nil {
			return nil, errors.Join(fmt.Errorf("load image (make test-images): %w", err), d.Close())
		}
		// What the daemon makes once, at its first container, is no leftover.
		if _, err := d.Porthole(ctx, "run", "--rm", "busybox", "true"); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return func() {
			if err := errors.Join(tell(), d.Close()); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}, nil
	})
}

// tally is what came of the attacks.
var tally struct {
	mu    sync.Mutex
	lines []string
}

// tell says what came of the attacks, on the screen and in the file PORTHOLE_TEST_ATTACKS.
func tell() error {
	tally.mu.Lock()
	defer tally.mu.Unlock()
	text := strings.Join(append(tally.lines, ""), "\n")
	fmt.Print(text)
	name := os.Getenv("PORTHOLE_TEST_ATTACKS")
	if name == "" {
		return nil
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// attack runs one attack, which fails the test if it gets through, and counts it.
func attack(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Cleanup(func() {
			result := "stopped   "
			switch {
			case t.Skipped():
				result = "not tried "
			case t.Failed():
				result = "NOT STOPPED "
			}
			tally.mu.Lock()
			defer tally.mu.Unlock()
			tally.lines = append(tally.lines, result+t.Name())
		})
		f(t)
	})
}

// begin prepares a test and has all that it makes removed. What is left then fails it.
func begin(t *testing.T) {
	t.Helper()
	testenv.NeedsRoot(t)
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	logged := len(daemon.LogTail(1 << 30))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*settling) //nolint:usetesting // the test's context has ended
		defer cancel()
		for _, kind := range [][]string{{"ps -aq --no-trunc", "rm -f -v"}, {"volume ls -q", "volume rm -f"}} {
			names, err := daemon.Porthole(ctx, strings.Fields(kind[0])...)
			if err == nil && names != "" {
				_, err = daemon.Porthole(ctx, append(strings.Fields(kind[1]), strings.Fields(names)...)...)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if left, err := daemon.Settled(ctx, before, 8); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
		if lines := daemon.Panics(logged); len(lines) > 0 {
			t.Errorf("the daemon panicked: %q\n%s", lines, daemon.LogTail(8192))
		}
	})
}

// porthole runs a command that has to succeed.
func porthole(t *testing.T, args ...string) string {
	t.Helper()
	out, err := daemon.Porthole(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a command that may fail, and returns both outputs.
func try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, daemon.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%q did not end: %s", args, out)
	}
	return string(out), err
}

// run are the arguments for a container with the attacker's program, without a network.
func run(args ...string) []string {
	return append([]string{"run", "--network", "none", "-v", attackDir + ":/attack:ro"}, args...)
}

// start starts a container that waits, and returns its first process on the host.
func start(t *testing.T, name string, args ...string) (pid string) {
	t.Helper()
	porthole(t, run(append([]string{"-d", "--name", name}, args...)...)...)
	return porthole(t, "inspect", "-f", "{{.State.Pid}}", name)
}

// awaitReady waits until a container has made the file /ready.
func awaitReady(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(settling); ; time.Sleep(20 * time.Millisecond) {
		if _, err := try(t, "exec", name, "test", "-e", "/ready"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready", name)
		}
	}
}

// racing tells whether a race goes on that began then. both: it has gone one way and the other.
func racing(began time.Time, both bool) bool {
	d := time.Since(began)
	return d < raceTime || !both && d < settling
}

// outside makes a directory of the host that no container is given, and in which everybody may do what he likes.
func outside(t *testing.T) (dir, secret string) {
	t.Helper()
	dir = filepath.Join(daemon.Dir, "outside-"+strings.ReplaceAll(t.Name(), "/", "-"))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	secret = "secret of the host"
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, secret
}

// lines is an attacker's report by what it tried.
func lines(t *testing.T, report string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for line := range strings.Lines(report) {
		what, how, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("the attacker said %q", line)
		}
		said[what] = how
	}
	return said
}

// grep finds the files below a directory that have a text in them.
func grep(dir, text string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), text) {
			found = append(found, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return found, err
}
