package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/portholehq/porthole/internal/crilog"
)

// stepLogs is where the builder keeps the output of steps, each in a directory that is named by its ID.
func (e *Engine) stepLogs() string { return filepath.Join(e.deps.Config.DataRoot, "build", "logs") }

// minStepRef is how many digits of a step's ID name it: fewer are a mistyped container's name rather.
const minStepRef = 6

// findStepLog finds the output of a step by its ID or the beginning of one. ended is closed once a step that runs has
// ended.
func (e *Engine) findStepLog(ref string) (dir string, ended <-chan struct{}, err error) {
	if len(ref) < minStepRef || strings.Trim(ref, "0123456789abcdef") != "" {
		return "", nil, errNoSuchContainer(ref)
	}
	entries, err := os.ReadDir(e.stepLogs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	id := ""
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ref) {
			continue
		}
		if id != "" {
			return "", nil, invalid("multiple IDs found with provided prefix: %s", ref)
		}
		id = entry.Name()
	}
	if id == "" {
		return "", nil, errNoSuchContainer(ref)
	}
	done := make(chan struct{})
	close(done)
	ended = done
	if r := e.steps.find(id); r != nil {
		ended = r.task.Done()
	}
	return filepath.Join(e.stepLogs(), id), ended, nil
}

// readStepLog calls fn for each line selected of what a step has printed.
func (e *Engine) readStepLog(ctx context.Context, ref string, o LogsOptions, fn func(LogEntry) error) error {
	dir, ended, err := e.findStepLog(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.life, func() { cancel(errShutdown) })()
	return crilog.Read(ctx, dir, readOptions(o, o.Follow), ended, logEntries("", fn))
}
