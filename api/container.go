package api

import "time"

// Container is the member "Porthole" of GET /containers/{id}/json: what Docker's
// inspect has no place for.
type Container struct {
	// Run is the number of the present run, or of the last one; 0: there was none.
	Run int `json:"Run"`
	// Runs are the last runs, the oldest first. GET /porthole/containers/{id}/deaths
	// knows of more.
	Runs []Run `json:"Runs"`
	// Operations are under way on the container, the oldest first.
	Operations []EngineOperation `json:"Operations"`
	// OOMKills are the processes of the present or last run that the kernel killed
	// for want of memory, as far as this daemon has seen it.
	OOMKills []OOMKill `json:"OOMKills,omitempty"`
	// Grafts are what was mounted into it while it runs; none if it does not run.
	Grafts []Graft `json:"Grafts,omitempty"`
}

// Graft is a directory or file of the host that was mounted into a container while
// it runs. POST /porthole/containers/{id}/grafts with source=, destination= and
// ro=1 makes one, DELETE with destination= takes it back, GET lists them. It is
// gone when the run ends, and is not there again after a restart.
type Graft struct {
	Source      string    `json:"Source"` // on the host
	Destination string    `json:"Destination"`
	ReadOnly    bool      `json:"ReadOnly"`
	Since       time.Time `json:"Since"`
}

// Run is one life of a container, from a start to its end, or an attempt at it.
type Run struct {
	Number int `json:"Number"` // 1 for the first start of the container
	// Cause is why it began: start, restart, restart-policy, daemon-start, or
	// unknown, when the daemon was killed before it could save the start.
	Cause      string    `json:"Cause"`
	By         *Actor    `json:"By,omitempty"`        // who asked for it; nil: not known
	StartedAt  time.Time `json:"StartedAt,omitzero"`  // absent: the start failed, or was not saved
	FinishedAt time.Time `json:"FinishedAt,omitzero"` // absent: it goes on
	ExitCode   *int      `json:"ExitCode,omitempty"`  // nil: it goes on
	Signal     int       `json:"Signal"`              // that ended it
	OOMKilled  bool      `json:"OOMKilled"`           // the kernel killed some process of it for want of memory
	Error      string    `json:"Error"`               // why the start failed; empty: it did not
	Unobserved bool      `json:"Unobserved"`          // nobody was there to see it end: the exit code is a guess
}
