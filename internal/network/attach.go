package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// containerInterface is what Docker calls the first interface in a container.
const containerInterface = "eth0"

// AttachSpec says what Attach connects to what.
type AttachSpec struct {
	// ContainerID is the container's full id.
	ContainerID string
	// Name is the container's name, shown by Inspect. May be empty.
	Name string
	// Hostname is not used yet: names come with user-made networks.
	Hostname string
	// Network is the name or id of the network. Empty and "default" mean the
	// default bridge.
	Network string
	// NetNS is the container's network namespace. It may belong to another user
	// namespace. The caller closes it.
	NetNS *os.File
	// IPv4 asks for one address of the subnet. The zero value means any.
	IPv4 netip.Addr
	// MAC asks for a hardware address. Nil means one made of the address.
	MAC net.HardwareAddr
}

// Attach gives a container an interface with an address and a default route.
// The container's own end is up when Attach returns. On an error nothing is
// left behind. A container that is attached already is detached first.
//
// Errors: NotFound for a network that is not there, InvalidArgument for host
// and none and for an address out of the subnet, Unavailable when no address
// is free, AlreadyExists for one that is taken.
func (m *Manager) Attach(ctx context.Context, spec AttachSpec) (Endpoint, error) {
	if err := m.checkAttachable(spec.Network); err != nil {
		return Endpoint{}, err
	}
	if err := m.Detach(ctx, spec.ContainerID); err != nil {
		return Endpoint{}, err
	}
	l, link, err := m.reserve(spec)
	if err != nil {
		return Endpoint{}, err
	}
	if err := m.connect(l, link, spec.NetNS); err != nil {
		m.discard(l)
		return Endpoint{}, fmt.Errorf("attach container %.12s to network bridge: %w", spec.ContainerID, err)
	}
	return l.Endpoint, nil
}

// checkAttachable resolves a network by name or id.
func (m *Manager) checkAttachable(network string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch network {
	case "", "default", BridgeNetwork, m.net.BridgeID:
		if m.bridge.Index == 0 {
			return errdefs.ErrFailedPrecondition.WithMessage("network bridge is not set up")
		}
		return nil
	case HostNetwork, NoneNetwork, m.net.HostID, m.net.NoneID:
		return errdefs.ErrInvalidArgument.WithMessage("network " + network + " has no interfaces to attach")
	}
	return errdefs.ErrNotFound.WithMessage("network " + network + " not found")
}

// reserve takes an address and saves the lease.
func (m *Manager) reserve(spec AttachSpec) (*lease, bridgeLink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	addr, err := m.pickAddress(spec.IPv4)
	if err != nil {
		return nil, bridgeLink{}, err
	}
	mac := spec.MAC
	if len(mac) == 0 {
		mac = macFor(addr)
	}
	id := newID()
	l := &lease{
		Container: spec.ContainerID, Name: spec.Name, Created: time.Now().UTC(),
		Endpoint: Endpoint{
			EndpointID: id, NetworkID: m.net.BridgeID, Interface: containerInterface,
			HostInterface: "veth" + id[:11], MAC: mac, MTU: int(m.bridge.MTU),
			IPv4:    netip.PrefixFrom(addr, m.net.Subnet.Bits()),
			Gateway: m.net.Gateway,
		},
	}
	// The file comes first, so that a daemon that dies right after this line
	// leaves a lease without an interface, which Reconcile mends, and never an
	// interface that nobody knows.
	if err := m.store.saveLease(*l); err != nil {
		return nil, bridgeLink{}, fmt.Errorf("save lease of %s: %w", addr, err)
	}
	m.leases[id] = l
	m.live[l.Container] = l
	m.taken[addr] = l
	return l, m.bridge, nil
}

// pickAddress returns the lowest free address, or want if it is free. mu is
// held.
func (m *Manager) pickAddress(want netip.Addr) (netip.Addr, error) {
	subnet := m.net.Subnet
	if want.IsValid() {
		switch {
		case !subnet.Contains(want) || want == subnet.Addr() || want == m.net.Gateway || want == lastAddress(subnet):
			return netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("address %s cannot be given to a container in subnet %s", want, subnet))
		case m.taken[want] != nil:
			return netip.Addr{}, errdefs.ErrAlreadyExists.WithMessage("Address already in use")
		}
		return want, nil
	}
	last := lastAddress(subnet)
	for a := subnet.Addr().Next(); a.Less(last); a = a.Next() {
		if a != m.net.Gateway && m.taken[a] == nil {
			return a, nil
		}
	}
	return netip.Addr{}, errdefs.ErrUnavailable.WithMessage("no available IPv4 addresses on this network's address pools: bridge (" + m.net.BridgeID + ")")
}

// lastAddress is the subnet's broadcast address.
func lastAddress(p netip.Prefix) netip.Addr {
	return netip.AddrFrom4([4]byte(broadcast(p)))
}

// macFor makes a locally administered hardware address of an IPv4 address, so
// that a neighbour's table stays right when an address gets a new owner.
func macFor(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return slices.Concat(net.HardwareAddr{0x02, 0x42}, net.HardwareAddr(b[:]))
}

// connect makes the interfaces of a lease.
func (m *Manager) connect(l *lease, link bridgeLink, ns *os.File) error {
	ep := l.Endpoint
	inside, err := dialRTNL(ns)
	if err != nil {
		return err
	}
	defer inside.Close()

	spec := vethSpec{Host: ep.HostInterface, Peer: ep.Interface, PeerMAC: ep.MAC, PeerNS: ns, MTU: link.MTU}
	errs := m.host.batch(newVeth(spec), noIPv6Address(0, ep.HostInterface), upOnBridge(ep.HostInterface, link.Index))
	if errs[0] != nil { // the others cannot have worked, and say nothing new
		return errs[0]
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	index, err := inside.linkIndex(ep.Interface)
	if err != nil {
		return err
	}
	return inside.do(noIPv6Address(index, ""), upByIndex(index), newAddress(index, ep.IPv4), newDefaultRoute(index, ep.Gateway))
}

// discard takes back a lease whose connect went wrong.
func (m *Manager) discard(l *lease) {
	if err := m.host.do(delLink(l.Endpoint.HostInterface)); err != nil && !gone(err) {
		// The reaper tries again, and says so if it cannot.
		m.log.Warn("interface of a failed attach is left", "interface", l.Endpoint.HostInterface, "err", err)
		m.leave(l)
		return
	}
	m.release([]*lease{l})
}
