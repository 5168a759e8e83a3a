package script

import (
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// buildxProgram is Docker Buildx: PORTHOLE_TEST_BUILDX, or what
// test/buildx/build.sh builds, once.
var buildxProgram = pinned("PORTHOLE_TEST_BUILDX", "buildx")

// cmdBuildx gives docker its buildx plugin for the rest of the script: then
// docker builds by BuildKit's API.
func cmdBuildx(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: buildx")
	}
	program, err := buildxProgram()
	if err != nil {
		ts.Fatalf("docker buildx (make buildx): %v", err)
	}
	config := ts.MkAbs("docker-config")
	ts.Check(os.MkdirAll(filepath.Join(config, "cli-plugins"), 0o755))
	ts.Check(os.Symlink(program, filepath.Join(config, "cli-plugins", "docker-buildx")))
	ts.Setenv("DOCKER_CONFIG", config)
}
