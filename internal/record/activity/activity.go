// Package activity keeps what the processes of a container have done: programs that
// began and ended, signals, connections.
//
// [Open] gives a [Log] to which entries are appended; [Read] reads any log, also
// while it is written; [Notable] chooses what a death record keeps of it.
//
// A log is a file of lines with checksums ([sumline.Log]), bounded: [Keep] to twice
// as many entries of some 200 bytes.
package activity

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/sumline"
)

// Keep is how many entries are kept at least.
const Keep = 1000

// Kind says what an entry tells of.
type Kind string

// The kinds of entries.
const (
	Exec    Kind = "exec"    // a program was executed
	Exit    Kind = "exit"    // a process has ended
	Signal  Kind = "signal"  // one was sent to a process
	Connect Kind = "connect" // a TCP connection to elsewhere was opened
	Refused Kind = "refused" // one could not be
	Accept  Kind = "accept"  // one from elsewhere was accepted
	Listen  Kind = "listen"  // a socket listens
)

// Entry is one thing that has happened. Numbers of processes are the container's.
type Entry struct {
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"kind"`
	Run    int       `json:"run,omitempty"`
	PID    int       `json:"pid,omitempty"`    // 0: not known
	Parent int       `json:"parent,omitempty"` // 0: it is not in the container
	Name   string    `json:"name,omitempty"`   // of at most 15 bytes

	File    string   `json:"file,omitempty"`
	Command []string `json:"command,omitempty"`
	Cut     bool     `json:"cut,omitempty"` // the command is longer

	Code   int            `json:"code,omitempty"` // of an exit
	Signal syscall.Signal `json:"signal,omitempty"`
	Lived  time.Duration  `json:"lived,omitempty"`

	// Of a signal.
	Ignored bool   `json:"ignored,omitempty"`
	Kernel  bool   `json:"kernel,omitempty"`  // it came from the kernel by itself
	From    int    `json:"from,omitempty"`    // the sender, if it is in the container
	Outside int    `json:"outside,omitempty"` // or as the host counts, if it is elsewhere
	Sender  string `json:"sender,omitempty"`  // its name

	Local  string        `json:"local,omitempty"` // address:port
	Remote string        `json:"remote,omitempty"`
	Error  syscall.Errno `json:"error,omitempty"`
	More   int           `json:"more,omitempty"` // like this one, since the last that is told of

	Dropped int `json:"dropped,omitempty"` // what happened before this and is not told of
}

// Failed tells of a process that did not end well.
func (e *Entry) Failed() bool { return e.Kind == Exit && (e.Code != 0 || e.Signal != 0) }

// Process names the process: its command line, where that is known.
func (e *Entry) Process() string {
	name := e.Name
	if len(e.Command) > 0 {
		name = strings.Join(e.Command, " ")
		if e.Cut {
			name += " …"
		}
	}
	switch {
	case e.PID == 0:
		return name
	case name == "":
		return fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("process %d (%s)", e.PID, name)
}

// Text says in one line what has happened.
func (e *Entry) Text() string {
	var text string
	switch e.Kind {
	case Exec:
		text = fmt.Sprintf("process %d runs %s", e.PID, strings.Join(e.Command, " "))
		if len(e.Command) == 0 {
			text = fmt.Sprintf("process %d runs %s", e.PID, e.File)
		}
		if e.Cut {
			text += " …"
		}
		if e.Parent > 0 {
			text += fmt.Sprintf(", a child of %d", e.Parent)
		}
	case Exit:
		how := fmt.Sprintf("ended with code %d", e.Code)
		if e.Signal != 0 {
			how = "was ended by " + syscalls.Signal(e.Signal)
		}
		text = fmt.Sprintf("%s %s after %v", e.Process(), how, e.Lived.Round(time.Millisecond))
	case Signal:
		text = fmt.Sprintf("%s got %s from %s", e.Process(), syscalls.Signal(e.Signal), e.sender())
		if e.Ignored {
			text += ", and ignores it"
		}
	case Connect:
		text = subject(e.Process()) + " connected to " + e.Remote
	case Refused:
		text = subject(e.Process()) + " could not connect to " + e.Remote
		if e.Error != 0 {
			text += ": " + e.Error.Error()
		} else {
			text += ", or gave it up"
		}
	case Accept:
		text = fmt.Sprintf("a connection from %s to %s was accepted", e.Remote, e.Local)
	case Listen:
		text = subject(e.Process()) + " listens on " + e.Local
	default:
		text = string(e.Kind)
	}
	if e.More > 0 {
		text += fmt.Sprintf(" (and %d times more in the seconds before)", e.More)
	}
	return text
}

func subject(process string) string {
	if process == "" {
		return "a process that is not known"
	}
	return process
}

func (e *Entry) sender() string {
	switch {
	case e.Kernel:
		return "the kernel"
	case e.From > 0 && e.From == e.PID:
		return "itself"
	case e.From > 0:
		return fmt.Sprintf("process %d (%s)", e.From, e.Sender)
	}
	return fmt.Sprintf("process %d (%s) of the host", e.Outside, e.Sender)
}

// Log is the log of one container.
type Log = sumline.Log[Entry]

// Open opens or creates the log at path.
func Open(path string) (*Log, error) {
	l, _, err := sumline.OpenLog[Entry](path, Keep)
	if err != nil {
		return nil, fmt.Errorf("activity: %w", err)
	}
	return l, nil
}

// Read returns the entries in the log at path, the oldest first, with the command
// line of each process that is known from an earlier entry. The error is
// fs.ErrNotExist if there is none.
func Read(path string) ([]Entry, error) {
	list, err := sumline.ReadLog[Entry](path)
	if err != nil {
		return nil, fmt.Errorf("activity: %w", err)
	}
	// They are of several processors.
	slices.SortStableFunc(list, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	type key struct{ run, pid int }
	runs := map[key]*Entry{}
	for i := range list {
		e := &list[i]
		k := key{e.Run, e.PID}
		if e.Kind == Exec {
			runs[k] = e
			continue
		}
		if x := runs[k]; x != nil && e.PID > 0 {
			e.Command, e.Cut, e.File = x.Command, x.Cut, x.File
			if e.Kind == Exit {
				delete(runs, k)
			}
		}
	}
	return list, nil
}

// MaxNotable is how many entries a death record keeps.
const MaxNotable = 20

// Notable are the last entries of a run that may tell why it ended: processes that
// did not end well, signals, connections that could not be opened.
func Notable(list []Entry, run int) []Entry {
	var out []Entry
	for _, e := range list {
		if e.Run == run && (e.Failed() || e.Kind == Signal || e.Kind == Refused) {
			out = append(out, e)
		}
	}
	return out[max(0, len(out)-MaxNotable):]
}
