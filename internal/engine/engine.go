// Package engine decides what may happen to a container and when.
//
// An [Engine] owns every container of one daemon: their saved configuration, their life cycle and what may be asked
// about them. The calls most people need are [Engine.ContainerCreate], [Engine.ContainerStart], [Engine.ContainerWait]
// and [Engine.ContainerRemove]; the rest are the verbs of the Engine API under the same names.
//
// Two rules shape the package:
//
//   - Reads never wait. Each container publishes an immutable snapshot of itself (see view); list, inspect, logs, wait,
//     events and stats work on the snapshot and on files, so that a container whose stop is stuck in the kernel slows
//     down nobody but the person stopping it.
//   - Mutating verbs of one container take turns (see opLock), and whoever waits can see who holds the turn and since when.
//
// How a container becomes a process is left to internal/runtime, images to internal/image, addresses to
// internal/network and volumes to internal/volume: the engine knows them by the small interfaces of deps.go.
package engine

import (
	"context"
	"io"
	"time"

	"github.com/portholehq/porthole/internal/event"
)

// Stream is a client's connection after it was hijacked from HTTP. CloseWrite tells the client that no more output will
// come; Close ends both directions.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// StopOptions say how a container is asked to end. The zero value means the container's own signal and timeout.
type StopOptions struct {
	Signal  string // name or number; empty: the container's stop signal, else SIGTERM
	Timeout *int   // seconds until SIGKILL; nil: the container's, else the daemon's; negative: wait for ever
}

// RemoveOptions say what may be done to remove a container.
type RemoveOptions struct {
	Force   bool // kill a running container first
	Volumes bool // remove its anonymous volumes as well
	Link    bool // remove a legacy link instead of the container: always an error, links do not exist here
}

// ListOptions select and shape the result of [Engine.ContainerList].
type ListOptions struct {
	All     bool // containers in every state, not only running ones
	Size    bool // fill SizeRw and SizeRootFs, which is slow
	Limit   int  // at most so many, newest first, in every state; 0: no limit
	Filters Filters
}

// LogsOptions select what [Engine.ContainerLogs] replays.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Timestamps     bool // honoured by the caller, who formats; kept here because API requests carry it
	Details        bool // as Timestamps
	Since, Until   time.Time
	Tail           int // last lines; negative: all

	After     uint64                 // lines up to this number are left out, see LogEntry.Number
	Run       int                    // only what this run wrote; 0: all runs
	Match     func(line []byte) bool // leaves out lines for which it is false; nil: none
	Always    bool                   // with Follow: until the container is removed, over all its runs
	Whole     bool                   // keep a line back until it is complete
	Positions bool                   // with Follow: entries without Line and Dropped tell how far the log was read
}

// StreamKind names one of a container's output streams, with the numbers of the API's framing.
type StreamKind uint8

// The streams that occur in a LogEntry. StreamSystem carries the daemon's own remarks.
const (
	Stdout       StreamKind = 1
	Stderr       StreamKind = 2
	StreamSystem StreamKind = 3
)

// LogEntry is one line that a container wrote. Line ends in a newline if the container wrote one; it is valid until the
// callback returns. Dropped counts the lines that are missing in front of this one: rotated away, or lost.
type LogEntry struct {
	Time   time.Time
	Stream StreamKind
	Line   []byte // nil: the entry only tells of dropped lines, or how far the log was read
	// Continued says that Line goes on where the last one of the stream, which had no newline, ended.
	Continued bool
	Dropped   uint64
	Damaged   bool   // some of the dropped lines were where the log file is damaged
	Parts     bool   // more is missing of a line that was counted as dropped before; see crilog.Entry
	Number    uint64 // how many lines of the whole log end with this one; see crilog.Entry
	Run       int    // 0: not known
	Details   string // "k=v,k=v" of the log options label, env; only when asked for
}

// AttachOptions say which streams of a container a client wants.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Stream                bool   // follow the live streams
	Logs                  bool   // replay what was logged before
	DetachKeys            string // empty: ctrl-p,ctrl-q
}

// ExecStartOptions belong to one start of an exec.
type ExecStartOptions struct {
	Detach      bool
	Tty         bool
	ConsoleSize [2]uint // height, width; zero: not known
}

// EventsOptions select events. A zero Since means from now on; a zero Until means for ever.
type EventsOptions struct {
	Since, Until time.Time
	After        uint64 // resume behind the event of that number, in place of Since; 0: not used
	Filters      Filters
	Opened       func() // called once it is sure that no later event will be missed; may be nil
}

// EventFunc receives events in order. A returned error ends the stream and is returned by [Engine.Events].
type EventFunc func(event.Record) error

// Shutdown stops what the engine itself runs (restart timers, health probes, writers) and returns when the last of its
// goroutines has ended and everything is saved. Containers are left running.
func (e *Engine) Shutdown(ctx context.Context) error { return e.shutdown(ctx) }
