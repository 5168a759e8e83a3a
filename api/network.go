package api

import "time"

// Forward is a port of the host that leads to a running container.
type Forward struct {
	HostIP   string `json:"HostIp"`
	HostPort uint16 `json:"HostPort"`
	Port     string `json:"Port"`
}

// NameServer is one that is asked for names which no network has.
type NameServer struct {
	Address string `json:"Address"` // with the port
	// From tells who has named it: a file of the host, or --dns.
	From string `json:"From"`
	// Inside tells that it is asked from the container's network, not the host's.
	Inside bool `json:"Inside"`
}

// Query is a question for a name, with what became of it.
type Query struct {
	At       time.Time `json:"At"`
	Name     string    `json:"Name"`
	Type     string    `json:"Type"`
	Protocol string    `json:"Protocol"` // udp or tcp
	// Server is "embedded" for a name of the container's networks, else who
	// answered or was asked last. Empty: nobody was asked.
	Server string `json:"Server"`
	// From tells who has named the server.
	From         string   `json:"From,omitempty"`
	Code         string   `json:"Code"` // NOERROR, NXDOMAIN and so on
	Answers      []string `json:"Answers,omitempty"`
	Microseconds int64    `json:"Microseconds"`
	Error        string   `json:"Error,omitempty"`
}

// Names tells how a container finds names.
type Names struct {
	Servers []NameServer `json:"Servers"`
	// External is false for a container without a way out: then nobody is asked.
	External bool `json:"External"`
	// Total counts all queries; Queries has the last of them, oldest first.
	Total   uint64  `json:"Total"`
	Queries []Query `json:"Queries"`
}

// Reach tells who can reach the ports of a container.
type Reach struct {
	// Note is what holds for all of them; may be empty.
	Note  string      `json:"Note,omitempty"`
	Ports []ReachPort `json:"Ports"`
}

// ReachPort is a port that a container listens on, or that is published.
type ReachPort struct {
	Port string `json:"Port"` // 80/tcp
	// Listens are the addresses that the server listens on; empty: nobody does.
	Listens []string    `json:"Listens"`
	From    []ReachFrom `json:"From"`
}

// ReachFrom tells whether somebody can reach a port.
type ReachFrom struct {
	Who     string   `json:"Who"`
	Reached bool     `json:"Reached"`
	By      []string `json:"By"` // addresses with ports
	Why     string   `json:"Why"`
}

// PacketsType is the media type of captured packets: a file of pcapng.
const PacketsType = "application/x-pcapng"

// Hop is a station on the way of a connection.
type Hop struct {
	Name   string `json:"Name"`
	State  string `json:"State"` // ok, failed, warning or skipped
	Detail string `json:"Detail"`
	// Hint names what to do about a failure. May be empty.
	Hint string `json:"Hint,omitempty"`
}
