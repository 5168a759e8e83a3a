package wire

import (
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/crilog"
)

// Init is the process id of a container's first process. Every other process
// id is chosen by the daemon (ExecSpec.ID).
const Init = "init"

// The methods a shim answers, with the types of body and answer.
const (
	MethodCreate     = "create"     // StartSpec -> Created; files: see StartSpec, then those of the plan
	MethodGo         = "go"         // ProcessRef -> Started
	MethodExec       = "exec"       // ExecSpec -> Created; files: see ExecSpec
	MethodExpect     = "expect"     // ExpectSpec -> nothing; files: see ExpectSpec
	MethodSignal     = "signal"     // SignalSpec -> nothing
	MethodResize     = "resize"     // ResizeSpec -> nothing
	MethodCloseStdin = "closestdin" // nothing -> nothing
	MethodAttach     = "attach"     // AttachSpec -> nothing; files: one end of a stream socket pair
	MethodFeedLog    = "feedlog"    // nothing -> nothing; files: one end of a SOCK_SEQPACKET pair, which gets crilog's batches
	MethodState      = "state"      // nothing -> State
	MethodSpawn      = "spawn"      // SpawnSpec -> Created; files: see SpawnSpec
	MethodShutdown   = "shutdown"   // nothing -> nothing
)

// EventExited is the name of the event that tells the end of a process; its
// body is Exited.
const EventExited = "exited"

// Request asks the shim for something. ID is chosen by the client and comes
// back in the Reply; it means nothing across connections.
type Request struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// Reply answers one Request: Error is nil exactly when the method did all it
// was asked for.
type Reply struct {
	ID    uint64          `json:"id"`
	Error *Error          `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Event is told to every connection without having been asked for.
type Event struct {
	Name string          `json:"name"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Error is a failure told across a socket. Step names what was being done
// ("mount proc", "exec"), Errno is the kernel's answer where there was one,
// Path is what it was about. Message is whole by itself.
type Error struct {
	Step    string        `json:"step,omitempty"`
	Errno   syscall.Errno `json:"errno,omitempty"`
	Path    string        `json:"path,omitempty"`
	Message string        `json:"message"`
}

// StageEnded is in the message of an Error if the stage has ended and said nothing.
const StageEnded = "the stage ended early"

func (e *Error) Error() string {
	if e.Message != "" {
		return e.Message
	}
	return fmt.Sprintf("%s: %v", e.Step, e.Errno)
}

// Unwrap gives the errno, so that errors.Is(err, fs.ErrNotExist) and the like
// work across the socket.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Size is a terminal's size in characters; zero leaves the terminal as it is.
type Size struct {
	Height uint16 `json:"height"`
	Width  uint16 `json:"width"`
}

// StartSpec is what the shim needs to start the container's first process.
type StartSpec struct {
	// CloneFlags are the CLONE_NEW* flags that the stage is cloned with.
	CloneFlags uintptr `json:"clone_flags"`
	// IntoCgroup says that the first file of the call is the directory of a v2
	// cgroup into which the stage is cloned (CLONE_INTO_CGROUP).
	IntoCgroup bool `json:"into_cgroup,omitempty"`
	// JoinPID says that the next file of the call is a pid namespace in which
	// the stage is forked; CloneFlags then have no CLONE_NEWPID.
	JoinPID bool `json:"join_pid,omitempty"`
	// Plan goes to the stage as it is, in a form that State says is understood.
	Plan []byte `json:"-"`
	// Args is shown in State and used for nothing else.
	Args []string `json:"args,omitempty"`
	// Terminal has the stage open a pty and send its master end (StagePTY)
	// before it is ready. Without it, the shim makes pipes.
	Terminal bool `json:"terminal,omitempty"`
	Size     Size `json:"size,omitzero"`
	// OpenStdin keeps a pipe open for stdin; without it stdin is /dev/null.
	OpenStdin bool `json:"open_stdin,omitempty"`
	// StdinOnce closes stdin when the first client that was attached to it
	// goes, whatever its AttachSpec says.
	StdinOnce bool           `json:"stdin_once,omitempty"`
	Log       crilog.Options `json:"log,omitzero"`
}

// ExecSpec starts one more process in the container. Without Terminal the
// first three files of the call are its stdin, stdout and stderr; then comes
// the cgroup directory, with IntoCgroup; all further ones belong to the plan.
type ExecSpec struct {
	ID       string   `json:"id"`
	Plan     []byte   `json:"-"` // see StartSpec
	Args     []string `json:"args,omitempty"`
	Terminal bool     `json:"terminal,omitempty"`
	Size     Size     `json:"size,omitzero"`
	// IntoCgroup is as in StartSpec.
	IntoCgroup bool `json:"into_cgroup,omitempty"`
	// Outside has the process born in the shim's pid namespace: the container
	// does not see it.
	Outside bool `json:"outside,omitempty"`
	// Expected says that the cgroup is that of expect.
	Expected bool `json:"expected,omitempty"`
	// Note is the daemon's, for the one after it: it comes back in the State.
	Note json.RawMessage `json:"note,omitempty"`
}

// ExpectSpec says that an exec is likely to follow at once: the shim forks its
// stage, which waits for its plan in the container. The one file of the call, with
// IntoCgroup, is as in StartSpec. The next exec with ExecSpec.Expected takes the
// stage; if none comes within ExpectTime, it is ended.
type ExpectSpec struct {
	IntoCgroup bool `json:"into_cgroup,omitempty"`
}

// ExpectTime is how long a stage waits for an exec that was expected. The
// container sees it among its processes meanwhile.
const ExpectTime = time.Second

// SpawnSpec starts another shim in this shim's user namespace. The files of
// the call are the new shim's descriptors 3, 4 and 5: listening socket, state
// directory, log directory. With Executable one more file goes before them:
// the shim binary to execute; without, it is this shim's own.
type SpawnSpec struct {
	Executable bool     `json:"executable,omitempty"`
	Env        []string `json:"env,omitempty"`
}

// Created answers create, exec and spawn with a host pid. For an exec with
// terminal the master end of its pty comes along as the only file; the shim
// keeps none, so whoever holds it also resizes it.
type Created struct {
	PID int `json:"pid"`
}

// ProcessRef names a process: Init or the ID of an ExecSpec.
type ProcessRef struct {
	Process string `json:"process"`
}

// Step is one named step of a start and what it took.
type Step struct {
	Name         string `json:"name"`
	Microseconds int64  `json:"microseconds"`
}

// Started answers go.
type Started struct {
	StartedAt time.Time `json:"started_at"`
	Steps     []Step    `json:"steps,omitempty"`
}

// SignalSpec sends a signal to one process.
type SignalSpec struct {
	Process string         `json:"process"`
	Signal  syscall.Signal `json:"signal"`
}

// ResizeSpec sets the size of the container's terminal.
type ResizeSpec struct {
	Process string `json:"process"`
	Width   uint16 `json:"width"`
	Height  uint16 `json:"height"`
}

// AttachSpec says what the passed socket is to be connected with. Output is
// written to it raw if the container has a terminal, else in frames
// {stream 1|2, 0, 0, 0, big-endian length}. What is read from it is written to
// the process's stdin. CloseStdin closes that stdin when the client shuts down
// its sending side or goes.
type AttachSpec struct {
	Stdin      bool `json:"stdin,omitempty"`
	Stdout     bool `json:"stdout,omitempty"`
	Stderr     bool `json:"stderr,omitempty"`
	CloseStdin bool `json:"close_stdin,omitempty"`
}

// Exit is how a process ended. It is the content of exit.json, too.
type Exit struct {
	// Status is the raw wait status.
	Status uint32 `json:"status"`
	// Code is what Docker reports: the exit status, or 128+n for signal n.
	Code   int            `json:"code"`
	Signal syscall.Signal `json:"signal,omitempty"`
	Core   bool           `json:"core,omitempty"`
	At     time.Time      `json:"at"`
	// Ran is how long the program ran, by a clock that nobody sets; 0: it was not started, or the shim is older.
	Ran time.Duration `json:"ran_nanoseconds,omitempty"`
	// What the process and those of its children that it waited for used.
	UserMicroseconds   int64 `json:"user_microseconds"`
	SystemMicroseconds int64 `json:"system_microseconds"`
	MaxRSSBytes        int64 `json:"max_rss_bytes"`
	// OOMScoreAdj is the adjustment the process ran with, read between its
	// death and its reaping; nil when it could not be read.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Signals are the dispositions that the process had when it died; nil when
	// they could not be read.
	Signals *SignalMasks `json:"signals,omitempty"`
}

// SignalMasks are the dispositions of a process's signals, bit n-1 for signal n,
// as in /proc/PID/status.
type SignalMasks struct {
	Blocked uint64 `json:"blocked"`
	Ignored uint64 `json:"ignored"`
	Caught  uint64 `json:"caught"`
}

// Exited is the body of EventExited.
type Exited struct {
	Process string `json:"process"`
	Exit    Exit   `json:"exit"`
	// Args and Note are in the state only, of execs, if they are short.
	Args []string        `json:"args,omitempty"`
	Note json.RawMessage `json:"note,omitempty"`
}

// The states of a process, in order.
const (
	StatusNone    = "none"    // nothing was created yet, or the start failed
	StatusCreated = "created" // the stage waits for go
	StatusRunning = "running"
	StatusExited  = "exited"
)

// State answers state: all that a daemon needs to adopt a container.
type State struct {
	Status    string    `json:"status"`
	PID       int       `json:"pid,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	Exited    bool      `json:"exited,omitempty"`
	Exit      *Exit     `json:"exit,omitempty"`
	Terminal  bool      `json:"terminal,omitempty"`
	OpenStdin bool      `json:"open_stdin,omitempty"`
	Steps     []Step    `json:"steps,omitempty"`
	// Processes are those that the shim started and that have not ended.
	Processes []ProcessInfo `json:"processes,omitempty"`
	// Ended holds the last exits of execs, so that one which ended while no
	// daemon was there is not lost.
	Ended []Exited `json:"ended,omitempty"`
	// PlanFormat is the newest form of a plan that the shim's stage reads,
	// Config.PlanFormat; every stage reads 0, too, which is JSON.
	PlanFormat int         `json:"plan_format,omitempty"`
	Clients    int         `json:"clients"`
	Log        LogInfo     `json:"log"`
	Self       Diagnostics `json:"self"`
}

// ProcessInfo is one living process that the shim started.
type ProcessInfo struct {
	ID     string          `json:"id"`
	PID    int             `json:"pid"`
	Status string          `json:"status"`
	Args   []string        `json:"args,omitempty"`
	Note   json.RawMessage `json:"note,omitempty"` // see ExecSpec
}

// LogInfo tells how the log does.
type LogInfo struct {
	Options crilog.Options `json:"options"`
	Lines   uint64         `json:"lines"`
	Bytes   uint64         `json:"bytes"`
	// Lost counts lines that could not be written; LastError says why.
	Lost      uint64 `json:"lost,omitempty"`
	LastError string `json:"last_error,omitempty"`
}

// Diagnostics lets a shim be looked into.
type Diagnostics struct {
	PID         int    `json:"pid"`
	Version     string `json:"version,omitempty"`
	Goroutines  int    `json:"goroutines"`
	Threads     int    `json:"threads"`
	Files       int    `json:"files"`
	HeapBytes   uint64 `json:"heap_bytes"`
	Connections int    `json:"connections"`
	// Problems are the last troubles that no call could be told of.
	Problems []string `json:"problems,omitempty"`
}

// payloader is a message that has a part which is not JSON.
type payloader interface{ payload() []byte }

func (s StartSpec) payload() []byte { return s.Plan }
func (s ExecSpec) payload() []byte  { return s.Plan }
