package api

import "github.com/moby/moby/api/types/events"

// Event is one line of GET /events: Docker's message with one more member, which
// Docker's clients pass over.
//
// The endpoint takes, besides Docker's parameters, after=SEQ: to resume behind the
// event of that number, in place of since. A number that is no longer kept, or
// that the journal has not come to, is refused with 400.
type Event struct {
	events.Message
	Porthole EventOrigin `json:"porthole"`
}

// EventOrigin is an event's number and who asked for what happened.
type EventOrigin struct {
	// Seq grows by one with each event, and never repeats.
	Seq uint64 `json:"seq"`
	Actor
}

// Actor is a client who asked the daemon for something. What is not known is
// absent; the zero Actor is nobody: the daemon did it by itself.
type Actor struct {
	UID     *uint32  `json:"uid,omitempty"`
	GID     *uint32  `json:"gid,omitempty"`
	PID     int32    `json:"pid,omitempty"`     // when it asked, as the daemon's host counts
	Command []string `json:"command,omitempty"` // its command line, cut after 4 KiB
	Address string   `json:"address,omitempty"` // of a client that came by the network
	Subject string   `json:"subject,omitempty"` // of its certificate
	// Request is the id by which the daemon's log names the request.
	Request string `json:"request,omitempty"`
	// Indirect tells that the client did not ask for what happened but for what
	// it follows from, as the one who started a process that has ended by itself.
	Indirect bool `json:"indirect,omitempty"`
}

// Known tells whether there is anything to say of the actor.
func (a *Actor) Known() bool {
	return a.UID != nil || a.PID != 0 || a.Address != "" || a.Subject != ""
}
