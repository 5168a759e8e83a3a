package api

import "time"

// Exec is a process that was started by exec in a container and runs.
type Exec struct {
	ID          string   `json:"id"`
	ContainerID string   `json:"container_id"`
	PID         int      `json:"pid"` // as the daemon's host counts
	User        string   `json:"user"`
	Command     []string `json:"command"`
	TTY         bool     `json:"tty"`
	// StartedAt is about the time if an earlier daemon has started it.
	StartedAt time.Time `json:"started_at"`
	// Client is who started it; nil if that is not known.
	Client *Actor `json:"client,omitempty"`
	// Attached tells that a client is connected to its streams.
	Attached bool `json:"attached"`
	// DieWithClient tells that it ends when that client goes away.
	DieWithClient bool `json:"die_with_client"`
}

// ExecHint answers GET /porthole/exec/{id}/hint: what to try after an exec that
// could not be executed, which Docker's answers have no place for.
type ExecHint struct {
	Hint string `json:"Hint"` // empty: nothing
}
