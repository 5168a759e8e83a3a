// Package health keeps what a container's health checks have said: the last results,
// with their output, over restarts of container and daemon.
//
// [Open] gives a [Log], whose Append adds a result; [Read] reads the results of any
// log, also while it is written.
//
// # Format
//
// A file of lines with checksums (package sumline), one JSON object each, the oldest
// first. What a crash or a full disk has torn is passed over. When there are twice as many as are
// kept, the file is replaced by one with the last of them, so that it is bounded:
// [Keep] results of some 4 KiB are half a MiB.
package health

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/sumline"
)

// Keep is how many results are kept at least.
const Keep = 128

// Result is what one health check has said, and what followed from it.
type Result struct {
	Run      int       `json:"run"` // of the container
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exit_code"` // -1: the check itself failed, or took too long
	TimedOut bool      `json:"timed_out,omitempty"`
	Output   string    `json:"output,omitempty"`
	// Status and FailingStreak are the container's afterwards.
	Status        string `json:"status"`
	FailingStreak int    `json:"failing_streak,omitempty"`
}

// Log is the log of one container. Only one is open at a time, and its methods are
// called by one goroutine.
type Log struct {
	path  string
	file  *os.File
	lines int
	torn  bool                                       // the file ends with half a line
	write func(f *os.File, line []byte) (int, error) // File.Write, but in tests
}

// Open opens or creates the log at path and returns what it holds. A damaged one is
// replaced by what is good in it.
func Open(path string) (*Log, []Result, error) {
	list, damaged, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("open health log: %w", err)
	}
	l := &Log{path: path, lines: len(list), write: (*os.File).Write}
	if damaged > 0 {
		if err := l.replace(list); err != nil {
			return nil, nil, fmt.Errorf("mend health log: %w", err)
		}
	}
	if err := l.open(); err != nil {
		return nil, nil, fmt.Errorf("open health log: %w", err)
	}
	return l, list, nil
}

func (l *Log) open() (err error) {
	l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }

// Append adds a result. It is with the kernel when Append returns.
func (l *Log) Append(r Result) error {
	line, err := encode(nil, r)
	if err != nil {
		return fmt.Errorf("append to health log: %w", err)
	}
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	if n, err := l.write(l.file, line); err != nil {
		l.torn = l.torn || n > 0 // the next result must not join what a full disk has cut
		return fmt.Errorf("append to health log: %w", err)
	}
	l.torn = false
	l.lines++
	if l.lines < 2*Keep {
		return nil
	}
	if err := l.shrink(); err != nil {
		return fmt.Errorf("shrink health log: %w", err)
	}
	return nil
}

// shrink leaves the last results.
func (l *Log) shrink() error {
	list, _, err := read(l.path)
	if err != nil {
		return err
	}
	list = list[max(0, len(list)-Keep):]
	if err := l.replace(list); err != nil {
		return err
	}
	l.lines = len(list)
	old := l.file
	if err := l.open(); err != nil {
		l.file = old
		return err
	}
	return old.Close()
}

func (l *Log) replace(list []Result) error {
	var text []byte
	for _, r := range list {
		var err error
		if text, err = encode(text, r); err != nil {
			return err
		}
	}
	return atomicfile.Write(l.path, text, 0o600)
}

func encode(b []byte, r Result) ([]byte, error) {
	object, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return sumline.Append(b, object), nil
}

// Read returns the results in the log at path, the oldest first. The error is
// fs.ErrNotExist if there is none.
func Read(path string) ([]Result, error) {
	list, _, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read health log: %w", err)
	}
	return list, nil
}

func read(path string) (list []Result, damaged int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var r Result
			object, bad := sumline.Cut(line)
			if bad == nil {
				bad = json.Unmarshal(object, &r)
			}
			if bad == nil {
				list = append(list, r)
			} else {
				damaged++
			}
		}
		if errors.Is(err, io.EOF) {
			return list, damaged, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}
