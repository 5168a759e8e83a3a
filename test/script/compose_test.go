package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// composeProgram is Docker Compose: PORTHOLE_TEST_COMPOSE, or what
// test/compose/build.sh builds, once.
var composeProgram = pinned("PORTHOLE_TEST_COMPOSE", "compose")

// pinned finds a program of Docker's: the one that a variable names, or what the
// build.sh of a directory beside this one builds, once. The tests' own world has
// no network, so what that needs is to be there already.
func pinned(variable, dir string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if program := os.Getenv(variable); program != "" {
			return program, nil
		}
		cmd := exec.Command("sh", filepath.Join("..", dir, "build.sh"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	})
}

// cmdCompose runs docker compose against the daemon.
func cmdCompose(ts *testscript.TestScript, neg bool, args []string) {
	run(ts, neg, append([]string{composePath(ts)}, args...))
}

func composePath(ts *testscript.TestScript) string {
	program, err := composeProgram()
	if err != nil {
		ts.Fatalf("docker compose (make compose): %v", err)
	}
	return program
}
