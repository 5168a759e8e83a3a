package api

import "time"

// Timeline answers GET /porthole/containers/{id}/timeline: all that is kept of what
// happened to a container, in one order; by name or id, also of one that was
// removed, as long as its death is recorded. Parameters: since= and until= (UNIX
// seconds), around= (an event such as "die" or "oom", of which the last one counts),
// window= (seconds before and after that, 30 if absent), limit= (the last entries
// only, 1000 if absent), only= (sources or kinds of entries, with commas between; all
// if absent).
type Timeline struct {
	ContainerID string          `json:"ContainerId"`
	Name        string          `json:"Name"`
	Status      string          `json:"Status"` // Docker's, or "removed"
	Entries     []TimelineEntry `json:"Entries"`
	// Around is when the event happened that was asked for.
	Around time.Time `json:"Around,omitzero"`
	// Omitted is how many earlier entries the limit has left out, at least.
	Omitted int `json:"Omitted,omitempty"`
	// Unknown is what is missing in it, and why.
	Unknown []string `json:"Unknown,omitempty"`
}

// The sources of what a timeline has.
const (
	TimelineEvent  = "event"  // the journal; with By if a client asked for it
	TimelineLog    = "log"    // the container's output
	TimelineHealth = "health" // a health check
	TimelineSample = "sample" // figures that were out of the ordinary
	TimelineDeath  = "death"  // the record of an end, of an exec's too

	TimelineProcess    = "process"    // what the kernel told of its processes, where it lets us watch: exec, exit, signal
	TimelineConnection = "connection" // and of their connections: connect, refused, accept, listen
)

// TimelineEntry is one thing that happened.
type TimelineEntry struct {
	Time   time.Time `json:"Time"`
	Source string    `json:"Source"`
	// Kind is one word: an event's action, stdout or stderr, a check's result, what
	// the figures tell, a death's cause.
	Kind string `json:"Kind"`
	Text string `json:"Text,omitempty"` // in one line
	By   *Actor `json:"By,omitempty"`   // who asked for it
	Run  int    `json:"Run,omitempty"`  // 0: not known
	Seq  uint64 `json:"Seq,omitempty"`  // an event's number
}
