package engine

import "time"

// Inspection shows what the engine is doing at one moment.
type Inspection struct {
	Containers     int         `json:"containers"`
	Operations     []Operation `json:"operations"`      // held turns, oldest first
	EventListeners int         `json:"event_listeners"` // clients following events
	Execs          int         `json:"execs"`           // processes started by exec and remembered
	StatePending   int         `json:"state_pending"`   // saved-state writes not yet on disk
}

// Operation is a mutating verb that holds a container's turn.
type Operation struct {
	Container string        `json:"container"`
	Name      string        `json:"name"`
	Verb      string        `json:"verb"`
	Since     time.Time     `json:"since"`
	Age       time.Duration `json:"age_ns"`
	Waiting   int           `json:"waiting"`
}
