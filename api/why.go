package api

import "time"

// Why is what GET /porthole/containers/{id}/why answers: why a container ended,
// or what it does, by the records and by a look at it. Also for one that was
// removed, as long as its death is recorded. Parameters: run=N for an earlier
// run, history=1 for all of them.
type Why struct {
	ContainerID string `json:"ContainerId"`
	Name        string `json:"Name"`
	Image       string `json:"Image,omitempty"`
	Status      string `json:"Status"` // Docker's, or "removed"
	Run         int    `json:"Run"`    // that is explained; 0: it never ran
	// Summary tells what has happened, in one line.
	Summary string `json:"Summary"`
	// Verdicts are the causes that there is evidence of, the one that counts first.
	Verdicts []Verdict `json:"Verdicts"`
	// Notes are worth knowing and no cause.
	Notes []string `json:"Notes,omitempty"`
	// Unknown is what could not be found out, and why.
	Unknown   []string    `json:"Unknown,omitempty"`
	LastWords []DeathLine `json:"LastWords,omitempty"`
	History   []WhyRun    `json:"History,omitempty"` // the oldest first
}

// Verdict is one cause.
type Verdict struct {
	Cause string `json:"Cause"` // one word, such as "oom" or "crlf"
	Text  string `json:"Text"`  // in one line
	// Confidence is certain (it was recorded, or seen), likely (several things say
	// so), or possible.
	Confidence string   `json:"Confidence"`
	Evidence   []string `json:"Evidence,omitempty"`
	Next       []string `json:"Next,omitempty"` // what to try, as commands or in words
}

// The degrees of confidence.
const (
	Certain  = "certain"
	Likely   = "likely"
	Possible = "possible"
)

// WhyRun is one run in a history.
type WhyRun struct {
	Run        int       `json:"Run"`
	Began      string    `json:"Began,omitempty"` // why: start, restart, restart-policy, daemon-start
	StartedAt  time.Time `json:"StartedAt,omitzero"`
	FinishedAt time.Time `json:"FinishedAt,omitzero"` // absent: it goes on
	ExitCode   *int      `json:"ExitCode,omitempty"`  // nil: it goes on, or nobody saw the end
	Cause      string    `json:"Cause"`
	Text       string    `json:"Text"`
	LastLine   string    `json:"LastLine,omitempty"`
}
