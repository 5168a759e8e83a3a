// Package keeper is the process that holds what containers need beside their
// interfaces and that must not end with the daemon: the sockets of published
// ports, and the name servers of networks.
//
// There is one keeper for a daemon, not one for a port. The daemon starts it when
// the first container needs it, as portholed under the name porthole-keeper, and
// tells it what to do by HTTP on a unix socket in the exec root:
//
//	PUT    /sandboxes/ID    a Sandbox; what there was of it before is changed
//	DELETE /sandboxes/ID
//	GET    /sandboxes       []Status
//	GET    /sandboxes/ID/queries
//	GET    /sandboxes/ID/queries/follow   a stream of Followed
//	GET    /sandboxes/ID/asked?network=udp&local=ADDRESS:PORT
//
// A sandbox ends by itself when the container's first process does, so that
// nothing is held for a container that has ended while no daemon lived. A keeper
// that has had no sandbox for a while, and no daemon, ends as well.
//
// # Ports
//
// For each published port the keeper listens on the host. What comes from other
// machines never gets there: the nftables table translates it on its way, which
// keeps the source address. To the socket come the host's own connections to a
// loopback address, those of containers, those by IPv6 to a container without
// it, and all of them in the moment in which somebody has flushed the table. The
// keeper passes them on. So nobody else can have the port, and a connection
// always finds it.
package keeper

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/portholehq/porthole/internal/network/resolver"
)

// Sandbox is what a container needs.
type Sandbox struct {
	ID  string `json:"id"`
	Pid int    `json:"pid"` // of its first process, whose end is the sandbox's
	// Networks are those with names.
	Networks []Membership `json:"networks,omitempty"`
	// Resolver is nil for a container that does not ask us for names.
	Resolver *Resolver `json:"resolver,omitempty"`
	Ports    []Port    `json:"ports,omitempty"`
}

// Membership is a container's place on a network.
type Membership struct {
	Network     string            `json:"network"` // its id
	NetworkName string            `json:"network_name"`
	Names       []string          `json:"names"` // the first is the one for the address
	Links       map[string]string `json:"links,omitempty"`
	IPv4        netip.Addr        `json:"ipv4,omitzero"`
	IPv6        netip.Addr        `json:"ipv6,omitzero"`
}

// Resolver says whom to ask for names that are not of a network.
type Resolver struct {
	// Servers are asked from inside the container. Empty: the host's are asked.
	Servers []netip.Addr `json:"servers,omitempty"`
	// External is false for a container without a way out.
	External bool `json:"external"`
}

// Port is a port of the host that leads to a container.
type Port struct {
	Proto   string       `json:"proto"`    // tcp or udp
	HostIPs []netip.Addr `json:"host_ips"` // all get one and the same port
	// First and Last are the range to choose from; zero: any free port.
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
	// Port is the container's.
	Port uint16 `json:"port"`
	// IPv4 and IPv6 are the container's addresses. Invalid ones are not used.
	IPv4 netip.Addr `json:"ipv4,omitzero"`
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	// Inside connects from inside the container: to its loopback address first.
	Inside bool `json:"inside,omitempty"`
}

// is tells whether a port that is open as number, for the request old, is what p
// asks for, wherever it leads.
func (p Port) is(old Port, number uint16) bool {
	if p.Proto != old.Proto || !slices.Equal(p.HostIPs, old.HostIPs) || p.Port != old.Port || p.Inside != old.Inside {
		return false
	}
	if p.First == 0 {
		return old.First == 0
	}
	return p.First <= number && number <= max(p.First, p.Last)
}

// Status is a sandbox as it is.
type Status struct {
	Sandbox
	// HostPorts are the ports of the host, in the order of Ports.
	HostPorts []uint16 `json:"host_ports"`
	// Connections counts those that the keeper has passed on, Open those now.
	Connections uint64 `json:"connections"`
	Open        int64  `json:"open"`
}

// Answer is that to a PUT.
type Answer struct {
	HostPorts []uint16 `json:"host_ports"`
}

// Queries are those that a container has asked.
type Queries struct {
	All       uint64              `json:"all"`
	Last      []resolver.Query    `json:"last"`
	Upstreams []resolver.Upstream `json:"upstreams"`
	External  bool                `json:"external"`
}

// Followed is a line of the stream of queries. The first one is empty: what is
// asked from then on is told.
type Followed struct {
	Query *resolver.Query `json:"query,omitempty"`
	// Dropped counts those that were asked before Query and are not told, since
	// they came faster than they were read.
	Dropped uint64 `json:"dropped,omitempty"`
	// End stands in the last line: the container has ended.
	End bool `json:"end,omitempty"`
}

// Refusal is the body of an answer with an error status.
type Refusal struct {
	Message string         `json:"message"`
	InUse   netip.AddrPort `json:"in_use,omitzero"`
	Proto   string         `json:"proto,omitempty"`
}

// InUseError tells that a port of the host is somebody's already.
type InUseError struct {
	Proto string
	Addr  netip.AddrPort
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("Bind for %s failed: port is already allocated", e.Addr)
}

// idle is how long a keeper without sandboxes waits for work.
const idle = 10 * time.Second
