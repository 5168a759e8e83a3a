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
	TraceDNS     = "dns"     // a question for a name was answered, or was not in time
	TraceLost    = "lost"    // events were dropped since the last such event
	TraceSummary = "summary" // the sums so far; the last one holds
	TraceEnd     = "end"     // the trace has ended in order
)

// TraceEvent is one line of the answer of POST
// /porthole/containers/{name}/trace, which is a stream of JSON values.
//
// The trace goes on until the client ends the body of its request, so many events
// (count) or seconds have come, or the container ends. With last (a duration; 0: all) or
// run (a number) it is of what the black box of a run has kept, of a container that may
// be gone, and ends by itself.
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
	// Unfinished tells that the thread has ended in the midst of it, as in exit_group,
	// or is in it still: there is no result. Of a black box only.
	Unfinished bool `json:"Unfinished,omitempty"`
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

	// Of a question for a name. Time is when it was asked.
	DNS *TraceQuery `json:"Dns,omitempty"`
	// Sources of the questions, of begin: resolver, packets.
	Sources []string `json:"Sources,omitempty"`
	// LeftOut counts, of end, questions in a network that others share whose process
	// is not known.
	LeftOut uint64 `json:"LeftOut,omitempty"`

	Lost uint64     `json:"Lost,omitempty"` // of lost, and in all of end
	Sent uint64     `json:"Sent,omitempty"` // of end: those that were not lost
	Sums []TraceSum `json:"Sums,omitempty"`
	Box  *TraceBox  `json:"Box,omitempty"` // of begin, where a black box tells
	Why  string     `json:"Why,omitempty"` // of end, and of lost where it is known
}

// TraceBox is the black box of a run (run --blackbox), which tells of what was, in
// place of a trace of what is (query parameters last and run).
type TraceBox struct {
	Run   int       `json:"Run"`
	Since time.Time `json:"Since"`
	// Late tells that the run had begun before Since, under a daemon that has ended: what
	// it did until then is missing.
	Late  bool      `json:"Late,omitempty"`
	Ended time.Time `json:"Ended,omitzero"` // the run; zero: it goes on
	Kept  int       `json:"Kept"`           // how many events there are, with those that are not told
	Seen  uint64    `json:"Seen"`           // how many there were: the oldest make way
}

// Who has told of a question.
const (
	SourceResolver = "resolver" // the name server that we have in the container
	SourcePackets  = "packets"  // packets from and to port 53 in its network
)

// TraceQuery is a question for a name, with what became of it.
type TraceQuery struct {
	Name     string `json:"Name"`
	Type     string `json:"Type"`
	Protocol string `json:"Protocol"` // udp or tcp
	// Server is who was asked, with the port; "embedded" for a name of the
	// container's networks. Empty: nobody was asked.
	Server  string   `json:"Server,omitempty"`
	Code    string   `json:"Code,omitempty"` // NOERROR, NXDOMAIN and so on; empty: there was no answer
	Answers []string `json:"Answers,omitempty"`
	// Truncated tells that the answer was cut short for UDP.
	Truncated bool   `json:"Truncated,omitempty"`
	Error     string `json:"Error,omitempty"`
	Source    string `json:"Source"` // resolver or packets
}

// Failed tells that there was no answer, or that it was an error.
func (q *TraceQuery) Failed() bool { return q.Error != "" || q.Code != "NOERROR" }

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
