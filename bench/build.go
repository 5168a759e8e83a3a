package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// buildBudget is the most that a build may take of which all is in the cache.
const buildBudget = 60

// builds measures building by the classic build, one instruction after the
// other, and by BuildKit's protocol: with all in the cache, and ten steps of which
// nothing is. dir is where the Dockerfile goes.
func builds(dir string) []benchmark {
	prepare := func(context.Context, *engine) error {
		text := "FROM busybox\n" + strings.Repeat("RUN true\n", 10)
		return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600)
	}
	return []benchmark{
		{
			name: "build-cached", title: "build of ten steps, all cached", unit: "ms", budget: buildBudget,
			setup: prepare, once: command("build", "-q", dir),
		},
		{
			name: "build", title: "build of ten trivial RUN steps", unit: "ms", budget: unlimited, times: 3, most: 5,
			setup: prepare, once: command("build", "-q", "--no-cache", dir),
		},
		{
			name: "buildkit-cached", title: "the same by BuildKit's protocol, all cached", unit: "ms", budget: unlimited,
			setup: prepare, once: buildKit("build", "-q", dir),
		},
		{
			name: "buildkit", title: "the same by BuildKit's protocol, RUN steps", unit: "ms", budget: unlimited, most: 5,
			setup: prepare, once: buildKit("build", "-q", "--no-cache", dir),
		},
	}
}

// buildKit measures a build by BuildKit's protocol.
func buildKit(args ...string) func(context.Context, *engine) (float64, error) {
	return func(ctx context.Context, e *engine) (float64, error) {
		return timed(func() error {
			cmd := e.command(ctx, args...)
			cmd.Path, cmd.Args[0] = e.buildkit, e.buildkit
			cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", e.name, err, strings.TrimSpace(string(out)))
			}
			return nil
		})
	}
}
