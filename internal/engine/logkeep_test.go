package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
)

// fillLog writes numbered lines as a shim would.
func fillLog(t testing.TB, dir string, from, to int, o crilog.Options) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := crilog.OpenWriter(f, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		if err := w.Write(crilog.Stdout, fmt.Appendf(nil, "line %d\n", i), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// age makes the segments of a log, and it, look left alone.
func age(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	for _, name := range append(names, dir) {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// logOpts makes a container with log options, keys and values in turn.
func logOpts(pairs ...string) func(*container.CreateRequest) {
	return func(r *container.CreateRequest) {
		r.HostConfig.LogConfig.Config = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			r.HostConfig.LogConfig.Config[pairs[i]] = pairs[i+1]
		}
	}
}

func segments(t *testing.T, dir, pattern string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestRotatedLogsAreCompressed(t *testing.T) {
	w := newWorld(t)
	id := w.create("ended", logOpts("max-size", "10k", "max-file", "100"))
	plain := w.create("plain", logOpts("max-size", "10k", "compress", "false"))
	dir := w.Engine.logDir(id)
	for _, id := range []string{id, plain} {
		fillLog(t, w.Engine.logDir(id), 0, 1000, crilog.Options{MaxSize: 10000, MaxFiles: 100})
	}
	k := &logKeeper{e: w.Engine, seen: map[string]time.Time{}}
	k.sweep(t.Context())
	if n := segments(t, dir, "*.zst"); n != 0 {
		t.Errorf("%d segments were compressed that had just been written", n)
	}
	age(t, dir)
	age(t, w.Engine.logDir(plain))
	k.sweep(t.Context())
	if packed, left := segments(t, dir, "*.zst"), segments(t, dir, "*.log"); packed < 3 || left != 1 {
		t.Errorf("%d segments are compressed, %d are not", packed, left)
	}
	if n := segments(t, w.Engine.logDir(plain), "*.zst"); n != 0 {
		t.Errorf("%d segments were compressed against compress=false", n)
	}
	n := 0
	err := w.Engine.ContainerLogs(t.Context(), id, LogsOptions{Stdout: true, Tail: -1}, func(e LogEntry) error {
		if want := fmt.Sprintf("line %d\n", n); string(e.Line) != want || e.Dropped != 0 {
			return fmt.Errorf("got %q after %d dropped, want %q", e.Line, e.Dropped, want)
		}
		n++
		return nil
	})
	if err != nil || n != 1000 {
		t.Errorf("read %d lines, %v", n, err)
	}
	age(t, dir)
	k.sweep(t.Context())
	k.sweep(t.Context())
	if k.seen[id].IsZero() {
		t.Error("an unchanged log is listed every time")
	}
}
