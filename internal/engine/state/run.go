package state

import (
	"slices"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/event"
)

// MaxRuns is how many runs a record remembers. The death records know of more.
const MaxRuns = 20

// Run is one life of a container, from a start to its end, or an attempt at it.
type Run struct {
	Number int      `json:"number"` // 1 for the first start of the container
	Cause  RunCause `json:"cause"`
	// By is who asked for the start, or for what led to it; nil: not known.
	By         *event.Origin `json:"by,omitempty"`
	StartedAt  time.Time     `json:"started_at,omitzero"`  // zero: the start failed, or was not saved
	FinishedAt time.Time     `json:"finished_at,omitzero"` // zero: it goes on
	ExitCode   int           `json:"exit_code"`
	Signal     int           `json:"signal,omitempty"`
	OOMKilled  bool          `json:"oom_killed,omitempty"` // some process of it was
	Error      string        `json:"error,omitempty"`      // why the start failed
	// Unobserved tells that it ended and nobody was there to see it: the rest is a guess.
	Unobserved bool `json:"unobserved,omitempty"`
}

// RunCause is why a run began.
type RunCause string

// The causes.
const (
	RunStarted   RunCause = "start"          // somebody asked for a start
	RunRestarted RunCause = "restart"        // somebody asked for a restart
	RunPolicy    RunCause = "restart-policy" // the restart policy, after the run before
	RunDaemon    RunCause = "daemon-start"   // the restart policy, when the daemon started
	RunUnknown   RunCause = "unknown"        // the daemon was killed before it could save the start
)

// Asked is what a client asked for that ends a container, or may.
type Asked struct {
	Action   string         `json:"action"` // stop, kill, restart, remove
	Signal   syscall.Signal `json:"signal,omitempty"`
	At       time.Time      `json:"at"`
	Timeout  time.Duration  `json:"timeout,omitempty"`  // how long it may take; negative: for ever
	KilledAt time.Time      `json:"killed_at,omitzero"` // when it was killed because it took longer
	By       *event.Origin  `json:"by,omitempty"`       // nil: the daemon itself
	Ends     bool           `json:"ends,omitempty"`     // it is meant to end the container, whatever the signal does
}

// Begin notes a run and forgets what belongs to the last one. A zero startedAt is of a start that failed.
func (l *Life) Begin(cause RunCause, by *event.Origin, startedAt time.Time) {
	l.Run++
	l.Asked, l.OOMTold, l.Removal = nil, 0, nil
	runs := append(slices.Clone(l.Runs), Run{Number: l.Run, Cause: cause, By: by, StartedAt: startedAt})
	l.Runs = runs[max(0, len(runs)-MaxRuns):]
}

// Amend changes what is noted of the last run. Without one it does nothing.
func (l *Life) Amend(change func(*Run)) {
	if len(l.Runs) == 0 {
		return
	}
	l.Runs = slices.Clone(l.Runs) // records share it
	change(&l.Runs[len(l.Runs)-1])
}

// Began is a moment between the end of the run before and all that the last run did. Its StartedAt will not do: the program
// may have written before its start was noted.
func (l *Life) Began() time.Time {
	if len(l.Runs) < 2 {
		return time.Time{}
	}
	return l.Runs[len(l.Runs)-2].FinishedAt
}

// Last is the last run; ok is false when there was none.
func (l *Life) Last() (r Run, ok bool) {
	if len(l.Runs) == 0 {
		return Run{}, false
	}
	return l.Runs[len(l.Runs)-1], true
}
