package api

import (
	"fmt"
	"strings"
	"time"
)

// Death is what is known of the end of one process of a container: its first, or
// that of an exec. GET /porthole/deaths lists them all, newest first;
// GET /porthole/containers/{id}/deaths those of one container, by name or id, also
// after it has been removed. Parameters: run=N, execs=1 for execs as well, limit=N,
// since=UNIX. What is not known is absent.
type Death struct {
	ContainerID string   `json:"ContainerId"`
	Name        string   `json:"Name"` // as it was then, without a slash
	Image       string   `json:"Image,omitempty"`
	ImageID     string   `json:"ImageId,omitempty"`
	Run         int      `json:"Run"`
	ExecID      string   `json:"ExecId,omitempty"` // absent: the container's first process
	Command     []string `json:"Command,omitempty"`
	Step        string   `json:"Step,omitempty"` // what a step of a build is called; absent: it is a container
	TTY         bool     `json:"Tty,omitempty"`
	AutoRemove  bool     `json:"AutoRemove,omitempty"` // the container was to be removed at its end

	CreatedAt  time.Time `json:"CreatedAt,omitzero"`
	StartedAt  time.Time `json:"StartedAt,omitzero"` // absent: it did not come so far, or that was not saved
	FinishedAt time.Time `json:"FinishedAt"`
	// Ran is how long it ran, in nanoseconds, by a clock that nobody sets; absent: that is not known.
	Ran time.Duration `json:"Ran,omitempty"`

	// Cause is one of completed, failed, crashed, oom, stopped, timed-out, killed,
	// shim-ended, not-started and lost; Text tells it in one line.
	Cause string `json:"Cause"`
	Text  string `json:"Text"`

	// Observed is false when nobody was there to see the end: the code is a guess.
	Observed   bool   `json:"Observed"`
	ExitCode   int    `json:"ExitCode"`   // as Docker has it: 128 + signal
	WaitStatus uint32 `json:"WaitStatus"` // as wait(2) has it
	Signal     string `json:"Signal,omitempty"`
	Core       bool   `json:"Core,omitempty"` // the kernel dumped its core
	// CorePath is the dump among the container's own files, CoreID that among the
	// cores that the daemon keeps, CoreHandler the program or socket of the host that
	// got it in place of a file; all absent: it is not known where it is.
	CorePath    string `json:"CorePath,omitempty"`
	CoreID      string `json:"CoreID,omitempty"`
	CoreBytes   int64  `json:"CoreBytes,omitempty"`
	CoreHandler string `json:"CoreHandler,omitempty"`
	// SignalFrom tells who sent the signal: client, engine, oom-killer, itself, not-by-us.
	SignalFrom string `json:"SignalFrom,omitempty"`

	StartedBy  *Actor           `json:"StartedBy,omitempty"`
	StartError *DeathStartError `json:"StartError,omitempty"`
	// Finding is what kept a command from being executed that a shell has told of.
	Finding *FileFinding `json:"Finding,omitempty"`
	Stop    *DeathStop   `json:"Stop,omitempty"` // what the daemon was asked to do
	// Sender is the process, other than the daemon's own, that sent the signal of
	// the end, or one just before it; absent: nobody did, or it is not known.
	Sender *DeathSender `json:"Sender,omitempty"`
	// Shim is how the container's shim ended, if it did so before the container.
	Shim    *DeathShim `json:"Shim,omitempty"`
	Denials []Denial   `json:"Denials,omitempty"` // system calls that were refused
	Learned *Learned   `json:"Learned,omitempty"` // what it has written to (--read-only=learn)
	// Activity are the last things that happened to its processes and may tell why it
	// ended: ends with an error, signals, connections that could not be opened.
	Activity []DeathActivity `json:"Activity,omitempty"`
	// Unwatched are the times in which no daemon watched its processes: what they did
	// then, and who signalled them, is not known.
	Unwatched []TimeSpan   `json:"Unwatched,omitempty"`
	OOMKills  []OOMKill    `json:"OOMKills,omitempty"`
	OOMCount  uint64       `json:"OOMCount,omitempty"` // what the kernel counted, which may be more than it told of
	Signals   *SignalMasks `json:"Signals,omitempty"`

	LastLines   []DeathLine  `json:"LastLines,omitempty"`
	LastSamples []*Sample    `json:"LastSamples,omitempty"`
	Health      *DeathHealth `json:"Health,omitempty"`
	Plan        []Step       `json:"Plan,omitempty"` // how the start went

	Limits       DeathLimits `json:"Limits"`
	Restarts     int         `json:"Restarts,omitempty"`     // by the restart policy, before this run
	WillRestart  bool        `json:"WillRestart,omitempty"`  // the policy starts it again
	DaemonAbsent bool        `json:"DaemonAbsent,omitempty"` // no daemon ran when it ended: less is known
}

// TimeSpan is the time from one moment to another.
type TimeSpan struct {
	From  time.Time `json:"From"`
	Until time.Time `json:"Until"`
}

// DeathStartError is the step of a start that went wrong.
type DeathStartError struct {
	Step    string `json:"Step,omitempty"`
	Path    string `json:"Path,omitempty"`
	Errno   int    `json:"Errno,omitempty"`
	Message string `json:"Message"`
	// Finding is what the container's files tell of it.
	Finding *FileFinding `json:"Finding,omitempty"`
}

// FileFinding is what is wrong with a file that keeps a program from being
// executed.
type FileFinding struct {
	Kind string `json:"Kind"` // one word, such as "crlf"
	Path string `json:"Path,omitempty"`
	Line int    `json:"Line,omitempty"`
	Text string `json:"Text"` // what is wrong, in one line
	Fix  string `json:"Fix"`  // what to do about it, in one line
}

// DeathStop is what somebody asked the daemon to do to the container.
type DeathStop struct {
	Action         string    `json:"Action"` // stop, kill, restart, remove
	Signal         string    `json:"Signal,omitempty"`
	At             time.Time `json:"At,omitzero"`
	TimeoutSeconds float64   `json:"TimeoutSeconds,omitempty"` // negative: for ever
	TimedOut       bool      `json:"TimedOut,omitempty"`       // it was killed because it did not end in time
	By             *Actor    `json:"By,omitempty"`
}

// Denial is a system call that was refused, once or several times, in a container
// of which that was to be logged (--log-denials).
type Denial struct {
	Program string    `json:"Program"` // the name of the thread, of at most 15 bytes
	Call    string    `json:"Call"`
	Args    string    `json:"Args"` // of the first time, in parentheses, as strace(1) prints them
	Errno   string    `json:"Errno"`
	Seccomp bool      `json:"Seccomp"` // by the seccomp profile; else by the kernel itself
	Count   uint64    `json:"Count"`
	First   time.Time `json:"First"`
}

// Learned is what a run has written to in its root filesystem, which was writable so
// that it could be learned what it would need were it read-only (--read-only=learn).
type Learned struct {
	Count   int          `json:"Count"` // of what has changed
	Paths   []string     `json:"Paths"` // of that, the first 64
	Dirs    []LearnedDir `json:"Dirs"`  // which have to be writable
	AtRoot  []string     `json:"AtRoot,omitempty"`
	Unknown string       `json:"Unknown,omitempty"` // why it is not known
}

// LearnedDir is a directory that has to be writable.
type LearnedDir struct {
	Path string `json:"Path"`
	// HasFiles says that the image has files in it, which a tmpfs hides.
	HasFiles bool `json:"HasFiles,omitempty"`
}

// Flags are those of run with which it would find what it needs.
func (l *Learned) Flags() []string {
	flags := []string{"--read-only"}
	for _, d := range l.Dirs {
		flags = append(flags, "--tmpfs "+d.Path)
	}
	return flags
}

// Text tells in lines what was learned.
func (l *Learned) Text() []string {
	switch {
	case l.Unknown != "":
		return []string{"what it has written to is not known: " + l.Unknown}
	case l.Count == 0:
		return []string{"it has written nothing to its root filesystem: --read-only alone will do"}
	}
	const few = 5
	written := strings.Join(l.Paths[:min(few, len(l.Paths))], ", ")
	if more := l.Count - few; more > 0 {
		written += fmt.Sprintf(" and %d more", more)
	}
	lines := []string{"it has written to its root filesystem: " + written, "read-only it needs: " + strings.Join(l.Flags(), " ")}
	for _, d := range l.Dirs {
		if d.HasFiles {
			lines = append(lines, fmt.Sprintf("the image has files in %s, which a tmpfs hides: -v %s in its place is a volume that begins with them", d.Path, d.Path))
		}
	}
	if len(l.AtRoot) > 0 {
		lines = append(lines, "nothing can be mounted for what is in / itself: "+strings.Join(l.AtRoot[:min(few, len(l.AtRoot))], ", "))
	}
	return lines
}

// DeathActivity is one thing that happened to a process of a container.
type DeathActivity struct {
	Time     time.Time `json:"Time"`
	Kind     string    `json:"Kind"`          // exit, signal or refused
	PID      int       `json:"Pid,omitempty"` // in the container
	Process  string    `json:"Process"`
	ExitCode *int      `json:"ExitCode,omitempty"` // of an exit: 128 + signal
	Signal   string    `json:"Signal,omitempty"`
	Remote   string    `json:"Remote,omitempty"` // of a connection
	Text     string    `json:"Text"`             // in one line
}

// DeathSender is a process that sent a signal, as the host sees it.
type DeathSender struct {
	PID           int       `json:"Pid"`
	PIDInside     int       `json:"PidInside,omitempty"` // in its own pid namespace
	UID           uint32    `json:"Uid"`
	Command       string    `json:"Command"`
	ContainerID   string    `json:"ContainerId,omitempty"` // it ran in; absent: on the host
	ContainerName string    `json:"ContainerName,omitempty"`
	Itself        bool      `json:"Itself,omitempty"` // the process that ended
	Parent        int       `json:"Parent,omitempty"`
	ParentName    string    `json:"ParentName,omitempty"`
	Signal        string    `json:"Signal"`
	At            time.Time `json:"At"`
	Source        string    `json:"Source"` // from what this is known
}

// DeathShim is the end of the process beside a container that should have told of the container's end.
type DeathShim struct {
	PID       int          `json:"Pid"`
	Signal    string       `json:"Signal,omitempty"`    // absent: none was seen
	OOMKilled bool         `json:"OOMKilled,omitempty"` // the kernel sent it for want of memory
	Sender    *DeathSender `json:"Sender,omitempty"`    // absent: the kernel, or it is not known
}

// OOMKill is one process that the kernel killed for want of memory. Sizes are in
// bytes, ids those of the host.
type OOMKill struct {
	Time    time.Time `json:"Time"`
	Task    string    `json:"Task"`
	PID     int       `json:"Pid"`
	UID     uint32    `json:"Uid"`
	RSS     uint64    `json:"Rss"`
	Whose   string    `json:"Whose"` // container, parent, inside, machine: whose limit was reached
	Group   string    `json:"Group,omitempty"`
	Limit   uint64    `json:"Limit,omitempty"`
	Usage   uint64    `json:"Usage,omitempty"`
	Swap    bool      `json:"Swap,omitempty"`    // it was the limit of memory and swap together
	Invoker string    `json:"Invoker,omitempty"` // the task that asked for memory
	First   bool      `json:"First,omitempty"`   // the victim is the process that the record is about

	// Largest are the processes among which the kernel chose that held most, the
	// largest first. With LargestAfter it did not list them: they are those of the
	// container that were left right after the kill, without the victim.
	Largest      []OOMTask `json:"Largest,omitempty"`
	LargestAfter bool      `json:"LargestAfter,omitempty"`
}

// OOMTask is a process that held memory when another one was killed. Sizes are in
// bytes, ids those of the host.
type OOMTask struct {
	Task string `json:"Task"`
	PID  int    `json:"Pid"`
	UID  uint32 `json:"Uid"`
	RSS  uint64 `json:"Rss"`
	Swap uint64 `json:"Swap,omitempty"` // what was swapped out of it
}

// SignalMasks name the signals that a process had blocked, ignored, or caught by a
// handler.
type SignalMasks struct {
	Blocked []string `json:"Blocked,omitempty"`
	Ignored []string `json:"Ignored,omitempty"`
	Caught  []string `json:"Caught,omitempty"`
}

// DeathLine is one of the last lines of output: Text, or Bytes if it is not UTF-8.
type DeathLine struct {
	Time   time.Time `json:"Time"`
	Stream string    `json:"Stream"`
	Text   string    `json:"Text,omitempty"`
	Bytes  []byte    `json:"Bytes,omitempty"`
}

// DeathHealth is what the last health check said.
type DeathHealth struct {
	Status        string `json:"Status"`
	FailingStreak int    `json:"FailingStreak,omitempty"`
	LastOutput    string `json:"LastOutput,omitempty"` // of the last one that failed
}

// DeathLimits are those that the container had; 0 is none.
type DeathLimits struct {
	Memory     uint64  `json:"Memory,omitempty"`
	MemorySwap uint64  `json:"MemorySwap,omitempty"` // together with memory
	CPUs       float64 `json:"Cpus,omitempty"`
	Pids       uint64  `json:"Pids,omitempty"`
}
