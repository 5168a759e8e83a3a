package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// buildBudget is the most that a build may take of which all is in the cache.
const buildBudget = 60

// builds measures building by the classic build, one instruction after the
// other, and by BuildKit's protocol: with all in the cache, and ten steps of which
// nothing is. dir is where the Dockerfile goes.
func builds(dir string) []benchmark {
	large, files := filepath.Join(dir, "large"), filepath.Join(dir, "files")
	dir = filepath.Join(dir, "ten")
	prepare := func(context.Context, *engine) error {
		return dockerfile(dir, "FROM busybox\n"+strings.Repeat("RUN true\n", 10))
	}
	// Docker merges no more than some 125 layers.
	prepareLarge := func(context.Context, *engine) error {
		var text strings.Builder
		text.WriteString("FROM busybox\n")
		for i := range 100 {
			fmt.Fprintf(&text, "RUN true %d\nENV A%d=1 B%d=2\nLABEL l%d=1\nENV C%d=3\nARG d%d=4\n", i, i, i, i, i, i)
		}
		return dockerfile(large, text.String())
	}
	prepareFiles := func(context.Context, *engine) error { return manyFiles(files) }
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
		{
			name: "build-large", title: "build of 500 instructions, 100 of them RUN", unit: "ms", budget: unlimited, most: 1,
			setup: prepareLarge, once: command("build", "-q", "--no-cache", large),
		},
		{
			name: "buildkit-large", title: "the same by BuildKit's protocol", unit: "ms", budget: unlimited, most: 1,
			setup: prepareLarge, once: buildKit("build", "-q", "--no-cache", large),
		},
		{
			name: "build-files", title: "build with a context of 50,000 files", unit: "ms", budget: unlimited, most: 1,
			setup: prepareFiles, once: command("build", "-q", "--no-cache", files),
		},
		{
			name: "buildkit-files", title: "the same by BuildKit's protocol", unit: "ms", budget: unlimited, most: 1,
			setup: prepareFiles, once: buildKit("build", "-q", "--no-cache", files),
		},
	}
}

// dockerfile makes a context that has a Dockerfile and nothing else.
func dockerfile(dir, text string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600)
}

// manyFiles makes a context of 50,000 files of some bytes, in 500 directories.
func manyFiles(dir string) error {
	for i := range 500 {
		sub := filepath.Join(dir, "context", strconv.Itoa(i))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return err
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(j)), fmt.Appendln(nil, i, j), 0o600); err != nil {
				return err
			}
		}
	}
	return dockerfile(dir, "FROM busybox\nCOPY context /context\n")
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
