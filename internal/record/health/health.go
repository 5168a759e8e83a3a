// Package health keeps what a container's health checks have said: the last results,
// with their output, over restarts of container and daemon.
//
// [Open] gives a [Log], whose Append adds a result; [Read] reads the results of any
// log, also while it is written.
//
// # Format
//
// A file of lines with checksums ([sumline.Log]), bounded: [Keep] results of some
// 4 KiB are half a MiB.
package health

import (
	"fmt"
	"time"

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

// Log is the log of one container.
type Log = sumline.Log[Result]

// Open opens or creates the log at path and returns what it holds. A damaged one is
// replaced by what is good in it.
func Open(path string) (*Log, []Result, error) {
	l, list, err := sumline.OpenLog[Result](path, Keep)
	if err != nil {
		return nil, nil, fmt.Errorf("health: %w", err)
	}
	return l, list, nil
}

// Read returns the results in the log at path, the oldest first. The error is
// fs.ErrNotExist if there is none.
func Read(path string) ([]Result, error) {
	list, err := sumline.ReadLog[Result](path)
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	return list, nil
}
