package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/cli/system"
)

// update rewrites the files in testdata from what Docker's own command line
// does, which must be of version 28.
var update = flag.Bool("update", false, "record testdata from the docker on the path")

// asPorthole makes the test binary run as the command line.
const asPorthole = "PORTHOLE_TEST_RUN_CLI"

func TestMain(m *testing.M) {
	if os.Getenv(asPorthole) != "" {
		os.Exit(Main(Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Exit: os.Exit}, os.Args[1:],
			system.Build{Version: "28.2.2", Commit: "e6534b4"}))
	}
	if os.Getenv(asTool) != "" {
		os.Exit(tool(os.Args[1:]))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// result is what a command line left behind.
type result struct {
	Out, Err string
	Code     int
}

// program runs a command line: Docker's or ours.
type program struct {
	path string
	env  []string
	// stdin is what it reads; empty for nothing.
	stdin string
}

func porthole(t testing.TB) program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program{path: self, env: []string{asPorthole + "=1"}}
}

// commandTimeout ends a command line that hangs, so that the test tells which.
const commandTimeout = 2 * time.Minute

// command prepares a run against the daemon at host.
func (p program) command(t testing.TB, host string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, p.path, append([]string{"-H", host}, args...)...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TZ=UTC", "FROM_CLIENT=client", "LANG=C",
	}, p.env...)
	return cmd
}

func (p program) run(t testing.TB, host string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := p.command(t, host, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if p.stdin != "" {
		cmd.Stdin = strings.NewReader(p.stdin)
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return result{out.String(), errOut.String(), exit.ExitCode()}
	}
	if err != nil {
		t.Fatalf("run %s %q: %v", p.path, args, err)
	}
	return result{out.String(), errOut.String(), 0}
}

// eventually tells whether something holds within a minute.
func eventually(t testing.TB, holds func() bool) bool {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		case <-t.Context().Done():
			return false
		}
	}
	return true
}

// asDocker puts Docker's name in the place of ours.
func (r result) asDocker() result {
	name := strings.NewReplacer("porthole", "docker", "Porthole", "Docker")
	return result{name.Replace(r.Out), name.Replace(r.Err), r.Code}
}
