package api

import "time"

// The kinds of a [TraceEvent].
const (
	TraceBegin   = "begin"   // the trace has begun: what happens from now on is seen
	TraceCall    = "call"    // a system call has returned
	TraceExec    = "exec"    // a program has been executed
	TraceExit    = "exit"    // a process has ended
	TraceSignal  = "signal"  // a signal was sent to a process of the container
	TraceTCP     = "tcp"     // a TCP connection has come to another state
	TraceLost    = "lost"    // events were dropped since the last such event
	TraceSummary = "summary" // the sums so far; the last one holds
	TraceEnd     = "end"     // the trace has ended in order
)

// TraceEvent is one line of the answer of POST
// /porthole/containers/{name}/trace, which is a stream of JSON values.
//
// The trace goes on until the client ends the body of its request, so many events
// (count) or seconds have come, or the container ends.
type TraceEvent struct {
	Kind string    `json:"Kind"`
	Time time.Time `json:"Time"` // when it began

	// The process, in the container; absent where the kernel tells of none.
	PID     int    `json:"Pid,omitempty"`
	TID     int    `json:"Tid,omitempty"`
	HostPID int    `json:"HostPid,omitempty"`
	Name    string `json:"Name,omitempty"` // of the thread, of at most 15 bytes

	// Of a call: its name, its arguments in parentheses and its result, as
	// strace(1) prints them.
	Call   string `json:"Call,omitempty"`
	Args   string `json:"Args,omitempty"`
	Result string `json:"Result,omitempty"`
	Return int64  `json:"Return,omitempty"` // -1 for all errors
	Errno  string `json:"Errno,omitempty"`
	// Denied tells that it was refused at its door, as a seccomp profile does.
	Denied bool `json:"Denied,omitempty"`
	// TookNanoseconds is how long a call took, or a process lived.
	TookNanoseconds int64 `json:"TookNanoseconds,omitempty"`

	// Of a program.
	File    string   `json:"File,omitempty"`
	Command []string `json:"Command,omitempty"`
	Cut     bool     `json:"Cut,omitempty"` // Command is longer than that
	Parent  int      `json:"Parent,omitempty"`

	// Of a process that has ended: its code as Docker has it, 128 + signal.
	ExitCode *int `json:"ExitCode,omitempty"`

	// Of a signal, or of what has ended a process.
	Signal  string       `json:"Signal,omitempty"`
	Ignored bool         `json:"Ignored,omitempty"`
	Sender  *TraceSender `json:"Sender,omitempty"`

	// Of a connection.
	Local    string `json:"Local,omitempty"` // address:port
	Remote   string `json:"Remote,omitempty"`
	OldState string `json:"OldState,omitempty"` // as ss(8) names them
	NewState string `json:"NewState,omitempty"`

	Lost uint64     `json:"Lost,omitempty"` // of lost, and in all of end
	Sent uint64     `json:"Sent,omitempty"` // of end: those that were not lost
	Sums []TraceSum `json:"Sums,omitempty"`
	Why  string     `json:"Why,omitempty"` // of end
}

// TraceSender is who has sent a signal.
type TraceSender struct {
	PID     int    `json:"Pid,omitempty"` // in the container; absent: it is elsewhere
	HostPID int    `json:"HostPid,omitempty"`
	Name    string `json:"Name,omitempty"`
	Kernel  bool   `json:"Kernel,omitempty"` // the kernel, by itself
}

// TraceSum is what was counted of one call.
type TraceSum struct {
	Call               string            `json:"Call"`
	Calls              uint64            `json:"Calls"`
	Errors             map[string]uint64 `json:"Errors,omitempty"` // by the name of the error
	Nanoseconds        int64             `json:"Nanoseconds"`      // all together
	LongestNanoseconds int64             `json:"LongestNanoseconds"`
}

// Failed is how many of the calls have failed.
func (s *TraceSum) Failed() (n uint64) {
	for _, k := range s.Errors {
		n += k
	}
	return n
}
