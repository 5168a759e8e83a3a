package bed

import (
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// knownRaces are those that are not reported.
//
//go:embed races.suppressions
var knownRaces []byte

// reportName is a report without the number of its process.
const reportName = "report"

// races is where programs under test that the race detector is built into report.
var races struct {
	mu   sync.Mutex
	dir  string           // empty: they have no race detector
	read map[string]int64 // how much of each file in there was returned
}

// watchRaces has the programs under test report into a directory of this process, if
// they were built by -race. Those built for the test alone never are.
func watchRaces() error {
	bin := os.Getenv("PORTHOLE_TEST_BIN")
	if bin == "" {
		return nil
	}
	info, err := buildinfo.ReadFile(filepath.Join(bin, "portholed"))
	if err != nil {
		return fmt.Errorf("ask how the programs were built: %w", err)
	}
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return nil
	}
	dir, err := os.MkdirTemp(WorkRoot(), "porthole-races-")
	if err != nil {
		return err
	}
	// Each process writes a file of its own. Shims are other users.
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		return err
	}
	known := filepath.Join(dir, "known")
	if err := os.WriteFile(known, knownRaces, 0o644); err != nil {
		return err
	}
	races.dir, races.read = dir, make(map[string]int64)
	// Without the last, each of them would sleep for a second at its end.
	return os.Setenv("GORACE", fmt.Sprintf("log_path=%s suppressions=%s atexit_sleep_ms=0", filepath.Join(dir, reportName), known))
}

// Races returns what the race detector in the programs under test has reported since it
// was called last.
func Races() (string, error) {
	races.mu.Lock()
	defer races.mu.Unlock()
	if races.dir == "" {
		return "", nil
	}
	paths, err := filepath.Glob(filepath.Join(races.dir, reportName+".*"))
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		// Who has reported once has the file open, so it stays.
		n, err := io.Copy(&all, io.NewSectionReader(f, races.read[path], 1<<40))
		f.Close()
		if err != nil {
			return "", err
		}
		races.read[path] += n
	}
	return all.String(), nil
}

// endRaces tells of what nobody has asked for yet, and removes the directory.
func endRaces() (clean bool) {
	text, err := Races()
	if text != "" {
		fmt.Fprintf(os.Stderr, "the race detector in the programs under test has reported:\n%s", text)
	}
	if races.dir != "" {
		err = errors.Join(err, os.RemoveAll(races.dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "look for reports of races:", err)
	}
	return text == "" && err == nil
}
