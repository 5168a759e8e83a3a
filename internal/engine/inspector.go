package engine

// Inspection shows what the engine is doing at one moment.
type Inspection struct {
	Containers     int           `json:"containers"`
	Operations     []Operation   `json:"operations"`              // under way, oldest first
	EventListeners int           `json:"event_listeners"`         // clients following events
	Execs          int           `json:"execs"`                   // processes started by exec and remembered
	LogShipments   []LogShipment `json:"log_shipments,omitempty"` // logs that are sent to other log systems
	LogFeeds       []LogFeed     `json:"log_feeds,omitempty"`     // logs that are followed as they are written
	StatePending   int           `json:"state_pending"`           // saved-state writes not yet on disk
}
