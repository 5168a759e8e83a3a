package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// buildBudget is the most that a build may take of which all is in the cache.
const buildBudget = 60

// builds measures building by the classic build, one instruction after the
// other: with all in the cache, and ten steps of which nothing is. dir is where
// the Dockerfile goes.
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
	}
}
