// Package death keeps why containers ended: one [Record] for each run of a
// container and each exec in it, after the container itself has been removed.
//
// The engine fills in a [Record] with what it knows when a process has ended,
// [Judge] names the cause in one word, and [Store.Write] keeps it as one JSON
// document. [Store.List] and [Store.Find] read them, newest first. The store is
// bounded by number and age, see [Options].
//
// Who shows a record, and in which words, is the business of others. Reading
// needs no lock and disturbs no writer: documents appear whole, by a rename, and
// never change.
package death

import (
	"encoding/json"
	"fmt"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/blackbox"
	"github.com/portholehq/porthole/internal/record/sample"
	"github.com/portholehq/porthole/internal/record/watch"
)

// Version of the documents. Fields may be added without a new one.
const Version = 1

// Record is what is known of the end of one process of a container: its first, or
// that of an exec. What is not known is absent.
type Record struct {
	Version int `json:"version"`

	// What ended.
	Container string   `json:"container"`       // full id
	Name      string   `json:"name"`            // as it was then, without a slash
	Image     string   `json:"image,omitempty"` // as the user wrote it
	ImageID   string   `json:"image_id,omitempty"`
	Run       int      `json:"run"`            // 1 for the first start of the container
	Exec      string   `json:"exec,omitempty"` // id of the exec; empty: the container's first process
	Command   []string `json:"command,omitempty"`
	Step      string   `json:"step,omitempty"` // what a step of a build is called; empty: it is a container
	TTY       bool     `json:"tty,omitempty"`
	Removed   bool     `json:"auto_remove,omitempty"` // it was to be removed at its end (--rm)

	Created  time.Time `json:"created,omitzero"` // the container
	Started  time.Time `json:"started,omitzero"` // zero: it did not come so far
	Finished time.Time `json:"finished"`
	// Ran is how long it ran, by a clock that nobody sets; 0: that is not known.
	Ran time.Duration `json:"ran,omitempty"`

	// How it ended.
	Cause Cause `json:"cause"`
	Exit  Exit  `json:"exit"`
	// StartError is why it did not start, with the step of the start plan.
	StartError *StartError `json:"start_error,omitempty"`
	// Finding is what in the files kept a command from being executed that a
	// shell has told of, where somebody has looked.
	Finding *Finding `json:"finding,omitempty"`

	// StartedBy is who asked for the start, or for what led to it.
	StartedBy *event.Origin `json:"started_by,omitempty"`

	// Who wanted it to end.
	Stop   *Stop   `json:"stop,omitempty"`   // what the engine was asked to do
	Sender *Sender `json:"sender,omitempty"` // who sent the signal that ended it, or one just before, where the kernel told

	// Shim is how the shim beside it ended, if that came first.
	Shim *ShimEnd `json:"shim,omitempty"`

	// Denials are the system calls that were refused, where that was to be logged.
	Denials []Denial `json:"denials,omitempty"`
	// Rights are what the container had been given, if there are denials.
	Rights *Rights `json:"rights,omitempty"`

	// Learned is what the run has written to, where that was to be learned.
	Learned *Learned `json:"learned,omitempty"`
	// Activity are the last things that happened to processes of the run and may tell
	// why it ended, where the kernel told.
	Activity []activity.Entry `json:"activity,omitempty"`

	// Unwatched are the times of it in which nobody watched what its processes do and
	// who signals them, as no daemon ran: what happened then is not in Activity and Sender.
	Unwatched []watch.Gap `json:"unwatched,omitempty"`

	// Box is the short form of what the black box of the run has kept (--blackbox), all of
	// which [Store.Calls] gives; nil: it had none, or nobody was there to read it.
	Box *blackbox.Summary `json:"box,omitempty"`

	OOMKills []OOMKill `json:"oom_kills,omitempty"` // during the whole run
	// OOMCount is what the kernel counted, which may be more than it told of.
	OOMCount uint64 `json:"oom_count,omitempty"`

	Signals *SignalMasks `json:"signals,omitempty"` // of the container's first process

	Core *Core `json:"core,omitempty"` // where the kernel's dump is; nil: there is none, or that is not known

	// What it did before.
	LastLines   []Line          `json:"last_lines,omitempty"`
	LastSamples []sample.Sample `json:"last_samples,omitempty"`
	Health      *Health         `json:"health,omitempty"`

	Plan []Step `json:"plan,omitempty"` // how the start went

	Limits       Limits `json:"limits,omitzero"`
	Restarts     int    `json:"restarts,omitempty"`      // by the restart policy, before this run
	WillRestart  bool   `json:"will_restart,omitempty"`  // the policy starts it again
	DaemonAbsent bool   `json:"daemon_absent,omitempty"` // no daemon ran when it ended: less is known
}

// Exit is how a process ended.
type Exit struct {
	Observed   bool           `json:"observed"`    // false: nobody was there to see it, as when the machine lost power
	WaitStatus uint32         `json:"wait_status"` // as wait(2) has it
	Code       int            `json:"code"`        // as Docker shows it: 128 + signal
	Signal     syscall.Signal `json:"signal,omitempty"`
	Core       bool           `json:"core,omitempty"` // the kernel dumped its core
}

// ExitOf takes a wait status apart.
func ExitOf(status syscall.WaitStatus) Exit {
	e := Exit{Observed: true, WaitStatus: uint32(status), Code: status.ExitStatus()}
	if status.Signaled() {
		const signalled = 128
		e.Signal, e.Core = status.Signal(), status.CoreDump()
		e.Code = signalled + int(e.Signal)
	}
	return e
}

// Core is the dump of a process that crashed.
type Core struct {
	Path  string `json:"path,omitempty"` // in the container's own files
	Bytes int64  `json:"bytes,omitempty"`
	// Handler is the program or socket of the host that got it in place of a file, as
	// /proc/sys/kernel/core_pattern has it.
	Handler string `json:"handler,omitempty"`
	// ID names it among the cores that are kept (package record/core), in place of Path.
	ID        string `json:"id,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
}

// StartError is a step of the start that went wrong.
type StartError struct {
	Step    string        `json:"step"`
	Path    string        `json:"path,omitempty"`
	Errno   syscall.Errno `json:"errno,omitempty"`
	Message string        `json:"message"`
	// Finding is what the files of the container tell of it; nil: nothing.
	Finding *Finding `json:"finding,omitempty"`
}

// Finding is what is wrong with a file that a start has met.
type Finding struct {
	Kind string `json:"kind"` // one word, such as "crlf"
	Path string `json:"path,omitempty"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"` // what is wrong, in one line
	Fix  string `json:"fix"`  // what to do about it, in one line
}

// Hint is all of it in one line.
func (f *Finding) Hint() string { return f.Text + "; " + f.Fix }

// Stop is what somebody asked the engine to do to a container.
type Stop struct {
	Action   string         `json:"action"` // stop, kill, restart, remove
	Signal   syscall.Signal `json:"signal,omitempty"`
	At       time.Time      `json:"at,omitzero"`
	Timeout  time.Duration  `json:"timeout,omitempty"`   // how long it might take; negative: for ever
	TimedOut bool           `json:"timed_out,omitempty"` // it was killed because it did not end in time
	By       *event.Origin  `json:"by,omitempty"`        // who asked; nil: not known
}

// Sender is the process that sent a signal, as the host sees it.
type Sender struct {
	PID       int    `json:"pid"` // 0: the kernel
	UID       uint32 `json:"uid"`
	Command   string `json:"command,omitempty"`
	Container string `json:"container,omitempty"` // in which it runs; empty: none
	Source    string `json:"source"`              // from what this is known, such as "tracepoint"

	Signal        syscall.Signal `json:"signal,omitempty"` // the one that it sent: that of the end, or one just before it
	At            time.Time      `json:"at,omitzero"`
	ContainerName string         `json:"container_name,omitempty"`
	Inside        int            `json:"pid_inside,omitempty"` // its number in its own pid namespace
	Itself        bool           `json:"itself,omitempty"`     // the process that ended
	Parent        int            `json:"parent,omitempty"`
	ParentName    string         `json:"parent_name,omitempty"`
}

// ShimEnd is the end of a shim that did not tell how its container had ended, since it ended before.
type ShimEnd struct {
	PID int `json:"pid"`
	// Signal is what ended it, as far as the kernel told; 0: that is not known, or it crashed by itself.
	Signal syscall.Signal `json:"signal,omitempty"`
	OOM    bool           `json:"oom,omitempty"`    // the kernel sent that for want of memory
	Sender *Sender        `json:"sender,omitempty"` // who sent it; nil: the kernel, or nobody knows
}

// Text tells in one line how it ended.
func (s *ShimEnd) Text() string {
	switch {
	case s.Signal == 0:
		return "its shim was killed or crashed"
	case s.OOM:
		return "its shim was killed by the kernel for want of memory"
	case s.Sender == nil:
		return "its shim was ended by " + unix.SignalName(s.Signal) + " from the kernel"
	}
	return "its shim was ended by " + unix.SignalName(s.Signal) + ": " + s.Sender.Text()
}

// UnknownContainer stands for a container of which only that it was one is known.
const UnknownContainer = "unknown"

// Text names the sender in a few words.
func (s *Sender) Text() string {
	if s.Itself {
		return "it sent that to itself"
	}
	text := fmt.Sprintf("process %d (%s) of uid %d", s.PID, s.Command, s.UID)
	if s.Container == "" {
		text += " of the host"
		if s.ParentName != "" {
			text += fmt.Sprintf(", a child of %s (%d)", s.ParentName, s.Parent)
		}
		return text
	}
	if s.Container == UnknownContainer {
		return text + " in a container that is gone"
	}
	name := s.ContainerName
	if name == "" {
		const short = 12
		name = s.Container[:min(len(s.Container), short)]
	}
	text += " in container " + name
	if s.Inside > 0 {
		text += fmt.Sprintf(", pid %d there", s.Inside)
	}
	return text
}

// Denial is a system call that was refused, once or several times.
type Denial struct {
	Program string    `json:"program"` // the name of the thread, of at most 15 bytes
	Call    string    `json:"call"`    // its name
	Args    string    `json:"args"`    // of the first time, in parentheses, as strace(1) prints them
	Errno   string    `json:"errno"`   // such as EPERM
	Seccomp bool      `json:"seccomp"` // by the seccomp profile; else by the kernel itself
	Count   uint64    `json:"count"`
	First   time.Time `json:"first"`
}

// Rights are what somebody asked for that decides over denials.
type Rights struct {
	CapAdd     []string `json:"cap_add,omitempty"`
	CapDrop    []string `json:"cap_drop,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	Seccomp    string   `json:"seccomp,omitempty"`  // the option, without the text of a profile; empty: none
	AppArmor   string   `json:"apparmor,omitempty"` // the profile, also the default one; empty: none
}

// MaxLearned are kept of a run, of each kind.
const MaxLearned = 64

// Learned is what a run has written to in its root filesystem.
type Learned struct {
	Count   int          `json:"count"`             // of what has changed; 0: nothing
	Paths   []string     `json:"paths,omitempty"`   // of that, the first
	Dirs    []LearnedDir `json:"dirs,omitempty"`    // which would have to be writable
	AtRoot  []string     `json:"at_root,omitempty"` // what is in the root directory itself, where nothing can be mounted
	Unknown string       `json:"unknown,omitempty"` // why all that is not known
}

// LearnedDir is a directory that would have to be writable.
type LearnedDir struct {
	Path     string `json:"path"`
	HasFiles bool   `json:"has_files,omitempty"` // of the image, which a mount hides
}

// MaxDenials are kept of a run.
const MaxDenials = 32

// OOMKill is one process that the kernel killed for want of memory.
type OOMKill struct {
	Time time.Time `json:"time"`
	Task string    `json:"task"`
	PID  int       `json:"pid"`
	UID  uint32    `json:"uid"`
	RSS  uint64    `json:"rss"` // what it held, in bytes

	// Whose limit was hit: the container's own, that of a group around it (or
	// inside it), or the memory of the machine.
	Whose Whose  `json:"whose"`
	Group string `json:"group,omitempty"`
	Limit uint64 `json:"limit,omitempty"` // in bytes
	Usage uint64 `json:"usage,omitempty"`
	Swap  bool   `json:"swap,omitempty"` // it was the limit of memory and swap together

	Invoker string `json:"invoker,omitempty"` // the task that asked for memory
	First   bool   `json:"first,omitempty"`   // the victim was the container's first process

	// Largest are the processes among which the kernel chose that held most, the
	// largest first: those within the limit that was hit, or of the machine.
	Largest []OOMTask `json:"largest,omitempty"`
	// LargestAfter tells that the kernel did not list them: they are those of the
	// container that were left right after the kill, without the victim.
	LargestAfter bool `json:"largest_after,omitempty"`
}

// OOMTask is a process that held memory when another one was killed.
type OOMTask struct {
	Task string `json:"task"`
	PID  int    `json:"pid"`
	UID  uint32 `json:"uid"`
	RSS  uint64 `json:"rss"`            // in bytes, as is
	Swap uint64 `json:"swap,omitempty"` // what was swapped out of it
}

// Whose says to whom a limit belongs.
type Whose string

// The owners of limits.
const (
	OwnLimit     Whose = "container"
	OuterLimit   Whose = "parent"
	InnerLimit   Whose = "inside"
	MachineLimit Whose = "machine"
)

// SignalMasks are the dispositions of a process's signals, bit n-1 for signal n,
// as in /proc/PID/status.
type SignalMasks struct {
	Blocked uint64 `json:"blocked"`
	Ignored uint64 `json:"ignored"`
	Caught  uint64 `json:"caught"`
}

// Handles tells whether a signal would reach a handler. A container's first
// process is not even killed by one that it does not handle, but for SIGKILL and
// SIGSTOP from outside.
func (m SignalMasks) Handles(s syscall.Signal) bool {
	return s > 0 && s <= 64 && m.Caught&(1<<(s-1)) != 0
}

// Line is one line of output, of any bytes.
type Line struct {
	Time   time.Time
	Stream string // stdout or stderr
	Text   []byte // without the newline
}

// lineJSON has the text in the one form or the other.
type lineJSON struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Text   string    `json:"text,omitempty"`
	Bytes  []byte    `json:"bytes,omitempty"` // what is not UTF-8, in base64
}

// MarshalJSON writes text as such, so that a document can be read.
func (l Line) MarshalJSON() ([]byte, error) {
	j := lineJSON{Time: l.Time, Stream: l.Stream}
	if utf8.Valid(l.Text) {
		j.Text = string(l.Text)
	} else {
		j.Bytes = l.Text
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the reverse of MarshalJSON.
func (l *Line) UnmarshalJSON(b []byte) error {
	var j lineJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*l = Line{Time: j.Time, Stream: j.Stream, Text: j.Bytes}
	if j.Bytes == nil {
		l.Text = []byte(j.Text)
	}
	return nil
}

// Health is what the last health check said.
type Health struct {
	Status        string `json:"status"`
	FailingStreak int    `json:"failing_streak,omitempty"`
	LastOutput    string `json:"last_output,omitempty"`
}

// Step is one step of the start plan.
type Step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"` // nanoseconds
}

// Lasted is how long it ran: by Ran or, where that is not known, by the clock, which may have been set meanwhile.
func (r *Record) Lasted() time.Duration {
	if r.Ran > 0 {
		return r.Ran
	}
	return max(r.Finished.Sub(r.Started), 0)
}

// Limits are those that the container had. Zero means none.
type Limits struct {
	Memory     uint64  `json:"memory,omitempty"`
	MemorySwap uint64  `json:"memory_swap,omitempty"` // together with memory
	CPUs       float64 `json:"cpus,omitempty"`
	Pids       uint64  `json:"pids,omitempty"` // the engine's, if it had none of its own
}
